"""Signals reach open runs, whatever those are doing, and are never lost."""

from __future__ import annotations

import threading
from functools import partial

import pytest
from django.db import transaction

from django_durable import PayloadError, WorkflowClosed, durable
from django_durable.models import Dispatch, InboxMessage
from django_durable.store import dispatch
from tests.flows import workflows
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, in_thread, wait_for

GATE = "signals"


@pytest.fixture
def gate(make_gate):
    return make_gate(GATE)


def received(handle):
    """The payloads of the signals that stand in a run's history."""
    return [entry.data["payload"] for entry in handle.history() if entry.type == "SignalReceived"]


def reached(sent, count):
    return len(sent) >= count


def test_a_signal_that_was_sent_before_any_worker_ran_is_received(make_worker):
    handle = durable.start_workflow(workflows.approval)
    handle.signal(workflows.approved("early"))
    make_worker()
    assert handle.result(timeout=DEADLINE) == "early"
    assert_invariants(handle)


def test_a_signal_wakes_a_sleeping_run(worker):
    handle = durable.start_workflow(workflows.approval)
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch__gt=0).exists(), "the run to be given back")
    handle.signal(workflows.approved("wake up"))
    assert handle.result(timeout=DEADLINE) == "wake up"


def test_a_signal_reaches_a_run_that_a_worker_has_in_hand(worker, gate):
    handle = durable.start_workflow(workflows.hold_then_collect, GATE, 2)
    wait_for(lambda: Dispatch.objects.filter(owner=worker.id), "the run to be owned")
    handle.signal(workflows.approved("one"))
    handle.signal("approved", "two")
    gate.set()
    assert handle.result(timeout=DEADLINE) == ["one", "two"]


def test_signals_are_received_in_the_order_in_which_they_were_sent(worker):
    handle = durable.start_workflow(workflows.collect_signals, 30)
    words = [f"word {number}" for number in range(30)]
    with transaction.atomic():
        for word in words[:10]:
            handle.signal(workflows.approved(word))
    for word in words[10:]:
        handle.signal(workflows.approved(word))
    assert handle.result(timeout=DEADLINE) == words
    assert_invariants(handle)


def test_a_signal_of_a_rolled_back_transaction_was_never_sent(worker):
    handle = durable.start_workflow(workflows.collect_signals, 1)
    with transaction.atomic():
        handle.signal(workflows.approved("undone"))
        transaction.set_rollback(True)
    handle.signal(workflows.approved("kept"))
    assert handle.result(timeout=DEADLINE) == ["kept"]


def test_waiting_for_a_signal_ends_when_its_time_is_up(worker):
    handle = durable.start_workflow(workflows.approval, 0.1)
    assert handle.result(timeout=DEADLINE) == "nobody came"
    assert_invariants(handle)


def test_a_payload_that_does_not_fit_is_refused_before_anything_is_sent(transactional_db):
    handle = durable.start_workflow(workflows.approval)
    with pytest.raises(PayloadError):
        handle.signal(workflows.approved, 17)
    assert not InboxMessage.objects.exists()


def test_a_signal_that_nobody_waited_for_is_recorded_as_unhandled(worker, gate):
    handle = durable.start_workflow(workflows.wait_at_gate, GATE)
    handle.signal(workflows.approved("unheard"))
    gate.set()
    handle.result(timeout=DEADLINE)
    assert received(handle) == ["unheard"]
    assert list(handle.history()[-1].data["unhandled"]) == ["approved"]


def test_a_run_ends_although_more_signals_wait_than_it_takes(make_worker):
    """The first is handled: signals are received in order, also when the end is tried again."""
    handles = [durable.start_workflow(workflows.approval), durable.start_workflow(workflows.approval)]
    for handle in handles:
        handle.signal(workflows.approved("yes"))
        handle.signal(workflows.approved("no, wait"))
        handle.cancel("too late")
    make_worker()
    for handle in handles:
        assert handle.result(timeout=DEADLINE) == "yes"
        assert list(handle.history()[-1].data["unhandled"]) == ["approved"]
        assert_invariants(handle)


def test_a_run_that_ends_at_its_start_does_so_with_signals_waiting(make_worker):
    handle = durable.start_workflow(workflows.echo, "at once")
    handle.signal(workflows.approved("unheard"))
    make_worker()
    assert handle.result(timeout=DEADLINE) == "at once"
    assert list(handle.history()[-1].data["unhandled"]) == ["approved"]
    assert_invariants(handle)


def test_no_signal_is_lost_while_its_run_ends(worker):
    """The end is provisional: each signal is in the history, received or unhandled, or its sender was told."""
    handles = [durable.start_workflow(workflows.until_told) for _ in range(4)]
    accepted: dict[str, list[str]] = {handle.workflow_id: [] for handle in handles}
    refused = []

    def send(handle, sender):
        for number in range(10_000):  # the run ends long before
            word = f"{sender}/{number}"
            try:
                handle.signal(workflows.approved(word))
            except WorkflowClosed:
                refused.append(word)
                return
            accepted[handle.workflow_id].append(word)

    threads = [in_thread(partial(send, handle, sender)) for handle in handles for sender in range(3)]
    for handle in handles:
        sent = accepted[handle.workflow_id]
        wait_for(partial(reached, sent, 6), "some signals")
        handle.signal(workflows.approved("stop"))
    for thread in threads:
        thread.join(DEADLINE)
    for handle in handles:
        handle.result(timeout=DEADLINE)
        heard, unheard = received(handle), handle.history()[-1].data["unhandled"]
        assert len(heard) == len(set(heard))
        assert set(heard) <= {*accepted[handle.workflow_id], "stop"}
        assert len(heard) + len(unheard) == len(accepted[handle.workflow_id]) + 1
        assert_invariants(handle)
    assert len(refused) == len(threads)


@pytest.mark.server
def test_a_sender_that_steps_back_from_a_closing_run_does_not_hold_its_row(transactional_db, monkeypatch):
    """Otherwise overlapping senders would keep the run open for as long as they come."""
    handle = durable.start_workflow(workflows.approval)
    Dispatch.objects.update(closing=True)
    stepped_back, free = threading.Event(), threading.Event()

    def rest(seconds):
        stepped_back.set()
        free.wait(DEADLINE)

    monkeypatch.setattr("django_durable.store.inbox.time.sleep", rest)
    sender = in_thread(lambda: handle.signal(workflows.approved("patient")))
    assert stepped_back.wait(DEADLINE)
    with transaction.atomic():
        had = dispatch.locked_for_end([handle.run_id])
    Dispatch.objects.update(closing=False)
    free.set()
    sender.join(DEADLINE)
    assert list(had) == [handle.run_id]
    assert InboxMessage.objects.count() == 1
