"""Cancel asks, terminate does not."""

from __future__ import annotations

import pytest

from django_durable import WorkflowCancelled, WorkflowTerminated, durable
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


def test_a_cancelled_run_may_clean_up_first(worker):
    handle = durable.start_workflow(workflows.clean_up_when_cancelled, "k")
    wait_for(lambda: handle.status().wakeup_at, "the run to sleep")
    assert handle.cancel("no longer needed")
    with pytest.raises(WorkflowCancelled, match="no longer needed"):
        handle.result(timeout=DEADLINE)
    assert Entry.objects.get().kind == "cleanup"
    assert_invariants(handle)


def test_a_run_that_is_cancelled_before_it_began_is_cancelled(make_worker):
    handle = durable.start_workflow(workflows.never_ends)
    handle.cancel()
    make_worker()
    with pytest.raises(WorkflowCancelled):
        handle.result(timeout=DEADLINE)
    assert_invariants(handle)


def test_cancelling_gives_up_what_runs(worker, make_gate):
    gate = make_gate("cancelled")
    handle = durable.start_workflow(workflows.call, "flows.wait_for_gate", ["cancelled"])
    wait_for(lambda: worker._slots.taken(), "the activity to run")
    handle.cancel()
    with pytest.raises(WorkflowCancelled):
        handle.result(timeout=DEADLINE)
    gate.set()
    assert_invariants(handle)


def test_a_terminated_run_ends_at_once_and_its_activities_are_dropped(worker, make_gate):
    gate = make_gate("terminated")
    handle = durable.start_workflow(workflows.wait_at_gate, "terminated", 3)
    wait_for(lambda: worker._slots.taken(), "the activity to run")
    assert handle.terminate("enough")
    with pytest.raises(WorkflowTerminated):
        handle.result()
    gate.set()
    wait_for(lambda: worker._slots.taken() == 0, "the thread to end")
    assert durable.start_workflow(workflows.chain, 2).result(timeout=DEADLINE) == 2
    assert not Entry.objects.exists()
    assert_invariants(handle)


def test_a_run_whose_code_keeps_the_engine_busy_can_be_terminated(worker, configure):
    configure(STUCK_SECONDS=60)
    handle = durable.start_workflow(workflows.spin, 2.0)
    wait_for(lambda: worker._watchdog._subject, "the code to run")
    assert handle.terminate()
    assert durable.start_workflow(workflows.echo, 1).result(timeout=DEADLINE) == 1
    assert handle.status().status == "terminated"
    assert_invariants(handle)
