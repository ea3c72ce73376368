"""Sleeping runs cost nothing and wake up in time."""

from __future__ import annotations

from django_durable import durable
from django_durable.models import Dispatch
from tests.flows import workflows
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


def test_a_run_wakes_up_when_its_timer_is_due_and_not_before(worker):
    handle = durable.start_workflow(workflows.nap, 0.4)
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch=1), "the run to be given back")
    assert handle.result(timeout=DEADLINE) == "rested"
    started, fired = (next(e for e in handle.history() if e.type == kind) for kind in ("TimerStarted", "TimerFired"))
    assert (fired.time - started.time).total_seconds() >= 0.4
    assert_invariants(handle)


def test_many_timers_of_one_run_fire(worker):
    handle = durable.start_workflow(workflows.naps, 50, 0.1)
    assert handle.result(timeout=DEADLINE) == 50
    assert [entry.type for entry in handle.history()].count("TimerFired") == 50
    assert_invariants(handle)


def test_many_sleeping_runs_wake_up(worker):
    handles = durable.start_workflows([workflows.nap.call(0.05 + number / 100) for number in range(20)])
    assert [handle.result(timeout=DEADLINE) for handle in handles] == ["rested"] * 20
    assert_all_invariants(handles)


def test_a_sleeping_run_wakes_up_at_another_worker(make_worker):
    first = make_worker()
    handle = durable.start_workflow(workflows.nap, 0.5)
    wait_for(lambda: handle.status().wakeup_at, "the run to sleep")
    first.stop()
    assert first.join(DEADLINE)
    make_worker()
    assert handle.result(timeout=DEADLINE) == "rested"
    assert_invariants(handle)


def test_an_activity_that_lasts_longer_than_the_workflow_waits_is_given_up(worker):
    handle = durable.start_workflow(workflows.race_with_timer, 1.0, 0.1)
    assert handle.result(timeout=DEADLINE) == "too late"
    assert durable.start_workflow(workflows.race_with_timer, 0.0, 30.0).result(timeout=DEADLINE) != "too late"
    assert_invariants(handle)
