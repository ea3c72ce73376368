"""Updates are carried out once, answered once, and refused without a trace."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from django_durable import (
    DefinitionError,
    UpdateFailed,
    UpdateRejected,
    WorkflowClosed,
    WorkflowNotFound,
    WouldWaitForever,
    durable,
)
from django_durable.history.replies import State
from django_durable.models import InboxMessage, Update, WorkflowRun
from django_durable.store import updates
from tests.flows import workflows
from tests.integration.worker.deaths import declare_dead
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, in_thread, wait_for

GATE = "updates"


@pytest.fixture
def gate(make_gate):
    return make_gate(GATE)


@pytest.fixture
def cart():
    return durable.start_workflow(workflows.cart).using(timeout=DEADLINE)


def accepted(handle):
    return [entry.data["name"] for entry in handle.history() if entry.type == "UpdateAccepted"]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("cache", [0, 1_000])
def test_updates_are_carried_out_and_answered(make_worker, configure, cart, cache, workers):
    configure(INSTANCE_CACHE_SIZE=cache)
    for _ in range(workers):
        make_worker()
    assert cart.update("add", "lamp", 2) == 2
    assert cart.update("add", sku="lamp") == 3
    assert cart.update(workflows.rename("mine")) == "mine"
    assert cart.update(workflows.rename, "yours") == "yours"
    with pytest.raises(UpdateRejected) as refused:
        cart.update("add", "lamp", 8)
    assert (refused.value.type, refused.value.message) == ("ValueError", "at most 10 of lamp")
    with pytest.raises(UpdateFailed) as failed:
        cart.update("break")
    assert (failed.value.type, failed.value.message) == ("KeyError", "'no such line'")
    assert "flows/workflows" in failed.value.traceback
    assert cart.update("check_out") == "thank you"
    assert cart.result(timeout=DEADLINE) == {"lamp": 3}
    assert accepted(cart) == ["add", "add", "rename", "rename", "break", "check_out"]
    assert_invariants(cart)


def test_what_the_workflow_cannot_take_is_refused(worker, cart):
    for call in (partial(cart.update, "gone"), partial(cart.update, "add", 5), partial(cart.update, "add")):
        with pytest.raises(UpdateRejected):
            call()
    assert accepted(cart) == []
    assert set(Update.objects.values_list("state", flat=True)) == {State.REJECTED}


def test_an_update_is_sent_by_the_name_of_its_workflow(worker, cart):
    assert durable.update_workflow(cart.workflow_id, "add", "lamp") == 1
    assert durable.update_workflow(cart.workflow_id, workflows.rename("x")) == "x"
    with pytest.raises(WorkflowNotFound):
        durable.update_workflow("nobody", "add", "lamp")


def test_the_async_twins(worker, cart):
    async def both():
        one, two = await asyncio.gather(
            cart.aupdate("add", "lamp"), durable.aupdate_workflow(cart.workflow_id, "add", "bulb")
        )
        with pytest.raises(UpdateRejected):
            await cart.aupdate("gone")
        return one, two

    assert async_to_sync(both)() == (1, 1)


def test_the_same_id_is_carried_out_once_and_answered_the_same(worker, cart):
    replies = []
    threads = [in_thread(lambda: replies.append(cart.using(update_id="once").update("add", "lamp"))) for _ in range(8)]
    for thread in threads:
        thread.join(DEADLINE)
    assert replies == [1] * 8
    assert cart.using(update_id="once").update("add", "lamp") == 1
    assert cart.update("add", "lamp") == 2
    cart.update("check_out")
    cart.result(timeout=DEADLINE)
    assert cart.using(update_id="once").update("add", "lamp") == 1, "a closed workflow still answers"
    assert accepted(cart) == ["add", "add", "check_out"]


def test_a_closed_workflow_takes_no_updates(worker, cart):
    cart.update("check_out")
    cart.result(timeout=DEADLINE)
    with pytest.raises(WorkflowClosed):
        cart.update("add", "lamp")
    with pytest.raises(WorkflowClosed):
        durable.update_workflow(cart.workflow_id, "add", "lamp")
    assert Update.objects.count() == 1


def test_an_update_that_ends_the_run_is_answered_with_it(worker):
    """Its reply and the end are in one commit: nobody finds the one without the other."""
    for _ in range(5):
        handle = durable.start_workflow(workflows.cart)
        assert handle.using(timeout=DEADLINE).update("check_out") == "thank you"
        assert handle.status().status == "completed"


def test_waiting_for_acceptance_only(worker, cart, gate):
    slow = cart.using(update_id="slow")
    assert slow.using(wait="accepted").update("at_gate", GATE) is None
    assert Update.objects.get().state == State.ACCEPTED
    with pytest.raises(TimeoutError, match="it is accepted"):
        slow.using(timeout=timedelta(seconds=0.05)).update("at_gate", GATE)
    gate.set()
    assert slow.update("at_gate", GATE) == GATE
    with pytest.raises(UpdateRejected):
        cart.using(wait="accepted").update("gone")


def test_without_a_worker_the_time_runs_out(transactional_db):
    handle = durable.start_workflow(workflows.cart)
    with pytest.raises(TimeoutError, match="it is sent"):
        handle.using(timeout=0.05).update("add", "lamp")


def test_options_that_do_not_exist_are_refused(transactional_db):
    handle = durable.start_workflow(workflows.cart)
    with pytest.raises(DefinitionError, match="no option 'id'"):
        handle.using(id="x")  # type: ignore[call-arg]
    with pytest.raises(DefinitionError, match="wait must be one of"):
        handle.using(wait="for ever")  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="update_id"):
        handle.using(update_id="")


def test_an_update_inside_a_transaction_raises_at_once(transactional_db):
    handle = durable.start_workflow(workflows.cart)
    with transaction.atomic(), pytest.raises(WouldWaitForever):
        handle.update("add", "lamp")
    with transaction.atomic(), pytest.raises(WouldWaitForever):
        durable.update_workflow(handle.workflow_id, "add", "lamp")
    assert not InboxMessage.objects.exists()


def test_updates_that_came_before_any_worker_are_carried_out_in_order(make_worker, cart):
    replies: list[int] = []

    def add(count):
        replies.append(cart.update("add", "lamp", count))

    threads = []
    for count in range(1, 4):
        threads.append(in_thread(partial(add, count)))
        wait_for(lambda many=count: InboxMessage.objects.count() == many, "the update to be sent")  # type: ignore[misc]
    make_worker()
    for thread in threads:
        thread.join(DEADLINE)
    assert sorted(replies) == [1, 3, 6]


def test_an_open_update_keeps_the_run_open_and_shows_in_its_status(worker, cart, gate):
    cart.using(update_id="slow", wait="accepted").update("at_gate", GATE)
    assert cart.update("check_out") == "thank you"
    status = wait_for(lambda: (now := cart.status()).open_handlers and now, "the run to wait for its handler")
    assert status.open_handlers == ["update 'at_gate'"]
    assert status.status == "running"
    assert status.as_dict()["open_handlers"] == status.open_handlers
    gate.set()
    assert cart.using(update_id="slow").update("at_gate", GATE) == GATE
    cart.result(timeout=DEADLINE)
    assert cart.status().open_handlers == []


def test_signals_that_nobody_takes_show_in_the_status(worker, cart):
    cart.signal("misspelt", 1)
    status = wait_for(lambda: (now := cart.status()).unhandled_signals and now, "the signal to be received")
    assert status.unhandled_signals == ["misspelt"]


def test_open_updates_fail_with_the_run(worker, cart, gate):
    cart.using(update_id="slow", wait="accepted").update("at_gate", GATE)
    cart.signal("fail")
    with pytest.raises(UpdateFailed) as caught:
        cart.using(update_id="slow").update("at_gate", GATE)
    assert (caught.value.type, caught.value.message) == ("RuntimeError", "told to fail")
    gate.set()
    assert_invariants(cart)


def test_open_updates_of_a_terminated_run_fail_and_sent_ones_never_reached_it(make_worker, cart):
    worker = make_worker()
    cart.using(update_id="slow", wait="accepted").update("nap")
    worker.stop()
    assert worker.join(DEADLINE)
    with pytest.raises(TimeoutError):
        cart.using(update_id="late", timeout=0.05).update("add", "lamp")
    cart.terminate("enough")
    with pytest.raises(UpdateFailed, match="Terminated: enough"):
        cart.using(update_id="slow").update("nap")
    with pytest.raises(WorkflowClosed):
        cart.using(update_id="late").update("add", "lamp")
    assert_invariants(cart)


def test_an_update_survives_the_death_of_its_worker(make_worker, configure, cart, gate):
    configure(LEASE_SECONDS=1.0)
    first = make_worker()
    cart.using(update_id="slow", wait="accepted").update("at_gate", GATE)
    assert cart.using(update_id="fast").update("add", "lamp") == 1
    declare_dead(first.id)
    make_worker()
    gate.set()
    assert cart.using(update_id="slow").update("at_gate", GATE) == GATE
    assert cart.using(update_id="fast").update("add", "lamp") == 1
    assert cart.update("check_out") == "thank you"
    assert cart.result(timeout=DEADLINE) == {"lamp": 1}
    assert_invariants(cart)


def test_no_update_is_lost_while_its_run_ends(make_worker):
    """Each is answered, or its caller is told that the workflow has ended, and then it has left no trace."""
    for _ in range(2):
        make_worker()
    handles = [durable.start_workflow(workflows.cart.using(queue="default"), 100_000) for _ in range(3)]
    answers: dict[str, list[int]] = {handle.workflow_id: [] for handle in handles}
    closed: list[object] = []

    def send(handle):
        for _ in range(10_000):  # the run ends long before
            try:
                answers[handle.workflow_id].append(handle.using(timeout=DEADLINE).update("add", "lamp"))
            except WorkflowClosed:
                closed.append(handle)
                return

    threads = [in_thread(partial(send, handle)) for handle in handles for _ in range(3)]
    for handle in handles:
        wait_for(partial(lambda sent: len(sent) >= 6, answers[handle.workflow_id]), "some updates")
        assert handle.using(timeout=DEADLINE).update("check_out") == "thank you"
    for thread in threads:
        thread.join(DEADLINE)
    assert len(closed) == len(threads)
    for handle in handles:
        count = handle.result(timeout=DEADLINE)["lamp"]
        assert sorted(answers[handle.workflow_id]) == list(range(1, count + 1))
        assert accepted(handle).count("add") == count
        assert_invariants(handle)


@pytest.mark.parametrize("cache", [0, 1_000])
def test_no_update_is_lost_or_carried_out_twice_while_its_workflow_continues_as_new(make_worker, configure, cache):
    """What one run of the chain has not accepted goes to the next."""
    configure(INSTANCE_CACHE_SIZE=cache)
    for _ in range(2):
        make_worker()
    handle = durable.start_workflow(workflows.generations).using(timeout=DEADLINE)
    numbers: list[int] = []

    def send():
        for _ in range(10):
            numbers.append(handle.update("count"))

    threads = [in_thread(send) for _ in range(4)]
    for thread in threads:
        thread.join(DEADLINE)
    assert sorted(numbers) == list(range(1, 41))
    again = handle.using(update_id="last")
    assert again.update("finish") == again.update("finish") == 40
    assert handle.result(timeout=DEADLINE) == 40
    assert again.update("finish") == 40
    assert WorkflowRun.objects.count() > 2
    assert set(Update.objects.values_list("state", flat=True)) == {State.COMPLETED}
    assert not Update.objects.filter(expires_at=None).exists()


def test_a_validator_that_has_changed_the_run_is_refused_and_the_run_replayed(worker):
    """What it did is undone: the event that it set is not set in the workflow that goes on."""
    handle = durable.start_workflow(workflows.meddles).using(timeout=DEADLINE)
    for _ in range(2):
        with pytest.raises(UpdateRejected, match="can only look"):
            handle.update("set")
    assert handle.update("really") == "set"
    assert handle.result(timeout=DEADLINE) == "over"
    assert_invariants(handle)


def test_replies_are_forgotten_a_day_after_the_end(worker, cart):
    other = durable.start_workflow(workflows.cart).using(timeout=DEADLINE)
    other.update("add", "lamp")
    cart.update("check_out")
    cart.result(timeout=DEADLINE)
    assert updates.prune() == 0
    reply = Update.objects.get(chain_id=cart.run_id)
    assert reply.closed_at is not None
    assert reply.expires_at is not None
    assert reply.expires_at > reply.closed_at
    Update.objects.filter(chain_id=cart.run_id).update(expires_at=reply.closed_at - timedelta(seconds=1))
    updates.prune()  # unless the worker was first
    assert Update.objects.get().chain_id == other.run_id
