"""Somebody else reaches a run first: its owner reads again, waits for its turn, and executes nothing twice."""

from __future__ import annotations

import time

import pytest
from django.db import transaction

from django_durable import durable, instrumentation
from django_durable.history import events, messages
from django_durable.store import clock, flush, history, inbox
from django_durable.worker import committing
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


def types(handle):
    return [event.type for event in handle.history()]


def word(text):
    return workflows.approved(text).payload


@pytest.fixture
def parked():
    """Workflow ids of runs that were parked."""
    noted = []

    def note(workflow_id, **named):
        noted.append(workflow_id)

    instrumentation.run_blocked.connect(note)
    yield noted
    instrumentation.run_blocked.disconnect(note)


def test_a_place_that_is_taken_makes_the_owner_read_again_and_keep_what_it_has(worker, make_gate, parked):
    """As after a commit whose reply was lost and whose worker gave up asking: never failed, never done again."""
    gate = make_gate("taken")
    handle = durable.start_workflow(workflows.record_then_collect, "taken", 1)
    wait_for(lambda: Entry.objects.exists(), "the activity to run")
    taken = events.SignalReceived(name="approved", payload=word("first"))
    history.append([history.Row.of(handle.run_id, 3, clock.read(), taken)])
    gate.set()
    assert handle.result(timeout=DEADLINE) == ["first"]
    assert types(handle)[2:] == ["SignalReceived", "ActivityCompleted", "RunCompleted"]
    assert Entry.objects.count() == 1
    assert parked == []
    assert_invariants(handle)


def test_a_message_that_an_end_meets_comes_before_the_result_that_was_held_and_nothing_runs_again(
    make_worker, make_gate, configure
):
    configure(POLL_SECONDS=60.0)
    gate = make_gate("held")
    handle = durable.start_workflow(workflows.call, "flows.recorded_at_gate", ["held"])
    make_worker()
    wait_for(lambda: Entry.objects.exists(), "the activity to run")
    with transaction.atomic():  # without a hint: only the end itself can find it
        inbox.send(handle.run_id, messages.Signal(name="approved", payload=word("unheard")))
    gate.set()
    assert handle.result(timeout=DEADLINE) == "held"
    assert types(handle)[2:] == ["SignalReceived", "ActivityCompleted", "RunCompleted"]
    assert list(handle.history()[-1].data["unhandled"]) == ["approved"]
    assert Entry.objects.count() == 1
    assert_invariants(handle)


@pytest.fixture
def pauses(monkeypatch):
    """How long the engine means to leave each busy run alone, as (least, most) seconds."""
    noted = []
    original = committing._VERDICTS[flush.Verdict.BUSY]

    def busy(self, run, result):
        began = time.monotonic()
        original(self, run, result)
        noted.append((run.busy_until - time.monotonic(), run.busy_until - began))

    monkeypatch.setitem(committing._VERDICTS, flush.Verdict.BUSY, busy)
    return noted


@pytest.mark.server
def test_a_run_whose_row_a_caller_holds_is_set_aside_and_the_others_go_on(worker, make_gate, pauses):
    gate = make_gate("busy")
    busy, free = (durable.start_workflow(workflows.wait_at_gate, "busy", 3) for _ in range(2))
    wait_for(lambda: worker._slots.taken() == 2, "both activities to run")
    with transaction.atomic():
        assert busy.terminate()
        gate.set()
        wait_for(lambda: free.status().is_closed, "the other run to end")
        wait_for(lambda: len(pauses) > 1, "the run to be tried again")
        assert types(free)[-1] == "RunCompleted"
        transaction.set_rollback(True)
    assert busy.result(timeout=DEADLINE) == "busy"
    shortest, longest = committing.BUSY_PAUSES
    assert all(shortest <= most and least <= shortest + longest for least, most in pauses)
    assert Entry.objects.count() == 6
    assert_invariants(busy)
