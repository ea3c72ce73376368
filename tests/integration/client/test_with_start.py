"""A message and the start of its workflow are one: both are stored or neither, and a run is started only if needed."""

from __future__ import annotations

import threading

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from django_durable import (
    PayloadError,
    UpdateFailed,
    UpdateRejected,
    WorkflowAlreadyStarted,
    WorkflowNotFound,
    WouldWaitForever,
    durable,
)
from django_durable.models import InboxMessage, Update, WorkflowRun
from tests.flows import workflows
from tests.integration.worker.invariants import assert_all_invariants
from tests.integration.worker.running import DEADLINE, in_thread, wait_for

NOTES = workflows.notes.using(workflow_id="notes")
CART = workflows.cart.using(workflow_id="cart")


def test_a_signal_starts_a_run_only_if_there_is_none(worker):
    first = durable.signal_with_start(workflows.noted("a"), NOTES)
    second = durable.signal_with_start(workflows.noted("b"), NOTES)
    assert first.run_id == second.run_id
    third = durable.signal_with_start("stop", NOTES)
    assert sorted(first.result(timeout=DEADLINE)) == ["a", "b"]
    fourth = durable.signal_with_start("stop", NOTES)
    assert third.run_id == first.run_id != fourth.run_id
    assert fourth.result(timeout=DEADLINE) == []
    assert_all_invariants([first, fourth])


def test_both_are_stored_with_the_callers_transaction_or_neither(transactional_db):
    with transaction.atomic():
        durable.signal_with_start(workflows.noted("a"), NOTES)
        transaction.set_rollback(True)
    assert not WorkflowRun.objects.exists()
    assert not InboxMessage.objects.exists()
    with pytest.raises(WorkflowNotFound):
        durable.get_workflow("notes")
    with transaction.atomic():
        durable.signal_with_start(workflows.noted("a"), NOTES)
        durable.signal_with_start(workflows.noted("b"), NOTES)
    assert (WorkflowRun.objects.count(), InboxMessage.objects.count()) == (1, 2)


def test_what_cannot_be_started_gets_no_message(worker):
    durable.signal_with_start("stop", NOTES).result(timeout=DEADLINE)
    with pytest.raises(WorkflowAlreadyStarted):
        durable.signal_with_start("stop", NOTES.using(on_reuse="reject"))
    with pytest.raises(PayloadError):
        durable.signal_with_start(workflows.noted, workflows.cart, "not a number")  # type: ignore[arg-type]
    assert not InboxMessage.objects.exists()
    assert WorkflowRun.objects.count() == 1


def test_an_open_run_can_be_replaced(transactional_db):
    first = durable.signal_with_start(workflows.noted("a"), NOTES)
    second = durable.signal_with_start(workflows.noted("b"), NOTES.using(on_conflict="terminate_existing"))
    assert first.status().status == "terminated"
    assert second.run_id != first.run_id
    assert InboxMessage.objects.get().chain_id == second.run_id


def test_an_update_starts_a_run_only_if_there_is_none(worker):
    assert durable.update_with_start(workflows.rename("x"), CART) == "x"
    run = durable.get_workflow("cart").run_id
    with pytest.raises(UpdateRejected, match="no handler"):
        durable.update_with_start("gone", CART)
    with pytest.raises(UpdateFailed):
        durable.update_with_start("break", CART)
    assert durable.get_workflow("cart").run_id == run
    assert durable.update_with_start("check_out", CART) == "thank you"
    assert durable.update_with_start(durable.update("add")("lamp"), CART) == 1
    assert durable.get_workflow("cart").run_id != run
    assert_all_invariants([durable.get_workflow("cart")])


def test_an_update_with_an_id_starts_one_run_and_is_carried_out_once(worker):
    add = durable.update("add")("lamp").using(update_id="once", timeout=DEADLINE)
    replies: list[int] = []
    barrier = threading.Barrier(6)

    def send():
        barrier.wait(DEADLINE)
        replies.append(durable.update_with_start(add, CART))

    threads = [in_thread(send) for _ in range(6)]
    for thread in threads:
        thread.join(DEADLINE)
    assert replies == [1] * 6
    assert WorkflowRun.objects.count() == 1
    assert Update.objects.count() == 1


def test_an_update_inside_a_transaction_starts_nothing(transactional_db):
    with transaction.atomic(), pytest.raises(WouldWaitForever):
        durable.update_with_start(workflows.rename("x"), CART)
    assert not WorkflowRun.objects.exists()
    with pytest.raises(TimeoutError):
        durable.update_with_start(workflows.rename("x").using(timeout=0.05), CART)
    assert WorkflowRun.objects.get().workflow_id == "cart"


def test_the_async_twins(worker):
    async def both():
        handle = await durable.asignal_with_start(workflows.noted("a"), NOTES)
        await handle.asignal("stop")
        return await handle.aresult(timeout=DEADLINE), await durable.aupdate_with_start(workflows.rename("x"), CART)

    assert async_to_sync(both)() == (["a"], "x")


def test_no_signal_is_lost_between_runs_that_end_and_runs_that_begin(make_worker):
    """Each signal is in the history of exactly one run, whichever that is."""
    for _ in range(2):
        make_worker()
    sent: list[str] = []

    def send(sender):
        for number in range(25):
            word = f"{sender}/{number}"
            durable.signal_with_start(workflows.noted(word), NOTES)
            sent.append(word)
            if number % 5 == sender:
                durable.signal_with_start("stop", NOTES)

    threads = [in_thread(lambda sender=sender: send(sender)) for sender in range(3)]  # type: ignore[misc]
    for thread in threads:
        thread.join(DEADLINE)
    durable.signal_with_start("stop", NOTES).result(timeout=DEADLINE)
    handles = [durable.get_workflow("notes")]
    wait_for(lambda: not WorkflowRun.objects.open().exists(), "the last run to end")
    handles = [type(handles[0])("notes", pk) for pk in WorkflowRun.objects.values_list("pk", flat=True)]
    heard = [
        entry.data["payload"]
        for handle in handles
        for entry in handle.history()
        if entry.type == "SignalReceived" and entry.data["name"] == "noted"
    ]
    unheard = [name for handle in handles for name in handle.history()[-1].data["unhandled"] if name == "noted"]
    assert len(heard) == len(set(heard))
    assert len(sent) == 75
    assert len(heard) + len(unheard) == 75
    assert_all_invariants(handles)
