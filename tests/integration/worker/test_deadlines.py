"""Runs whose time is up: they end as timed out, and none of their code runs any more."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_durable import WorkflowTimedOut, durable
from django_durable.models import Dispatch, WorkflowRun
from django_durable.store import clock, dispatch
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.store.sessions import paused
from tests.integration.worker.deaths import give_to, past_worker
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for

SHORT, LONG = timedelta(seconds=0.4), timedelta(hours=1)

LIMITS = pytest.mark.parametrize("limit", ["run_timeout", "execution_timeout"])


def expire(handle) -> None:
    """The run's deadline is now, as if it had been set so."""
    now = clock.read()
    WorkflowRun.objects.filter(pk=handle.run_id).update(execution_deadline=now)
    Dispatch.objects.filter(run_id=handle.run_id).update(deadline=now, wakeup_at=now)


@LIMITS
@pytest.mark.parametrize("cache", [0, 1000])
def test_a_sleeping_run_is_woken_at_its_deadline_and_ends(worker, configure, limit, cache):
    configure(INSTANCE_CACHE_SIZE=cache)
    limited = {
        "run_timeout": workflows.clean_up_when_cancelled.using(run_timeout=SHORT),
        "execution_timeout": workflows.clean_up_when_cancelled.using(execution_timeout=SHORT),
    }
    handle = durable.start_workflow(limited[limit], "k")
    with pytest.raises(WorkflowTimedOut, match=limit):
        handle.result(timeout=DEADLINE)
    status = handle.status()
    assert (status.status, status.error_type) == ("timed_out", "TimeoutError")
    last = handle.history()[-1]
    assert (last.type, last.data["timeout"]) == ("RunTimedOut", limit)
    assert last.time - handle.history()[0].time >= SHORT
    assert not Entry.objects.exists()  # neither finally nor except has run
    assert_invariants(handle)


def test_a_run_that_waits_for_a_message_alone_times_out(worker):
    handle = durable.start_workflow(workflows.never_ends.using(run_timeout=SHORT))
    with pytest.raises(WorkflowTimedOut):
        handle.result(timeout=DEADLINE)
    assert_invariants(handle)


def test_a_run_that_is_busy_with_an_activity_times_out(worker, make_gate):
    gate = make_gate("busy")
    handle = durable.start_workflow(workflows.wait_at_gate.using(run_timeout=SHORT), "busy", 3)
    with pytest.raises(WorkflowTimedOut):
        handle.result(timeout=DEADLINE)
    gate.set()
    assert durable.start_workflow(workflows.echo, 1).result(timeout=DEADLINE) == 1
    assert not Entry.objects.filter(kind="after gate").exists()
    assert_invariants(handle)


def test_a_run_that_ends_in_time_is_left_alone(worker):
    handle = durable.start_workflow(workflows.nap.using(run_timeout=LONG, execution_timeout=LONG), 0.1)
    assert handle.result(timeout=DEADLINE) == "rested"
    assert_invariants(handle)


def test_the_shorter_limit_counts(worker):
    handle = durable.start_workflow(workflows.never_ends.using(run_timeout=LONG, execution_timeout=SHORT))
    with pytest.raises(WorkflowTimedOut, match="execution_timeout"):
        handle.result(timeout=DEADLINE)


def test_a_limit_of_the_decorator_counts(worker):
    with pytest.raises(WorkflowTimedOut, match="run_timeout"):
        durable.start_workflow(workflows.limited).result(timeout=DEADLINE)


def test_a_run_whose_deadline_passed_while_there_was_no_worker_ends_without_its_code(make_worker):
    workflows.visits.clear()
    handle = durable.start_workflow(workflows.visited.using(run_timeout=LONG))
    expire(handle)
    make_worker()
    with pytest.raises(WorkflowTimedOut):
        handle.result(timeout=DEADLINE)
    assert workflows.visits == []
    assert_invariants(handle)


def test_a_blocked_run_is_woken_at_its_deadline(make_worker, configure, monkeypatch):
    configure(INSTANCE_CACHE_SIZE=0)
    make_worker()
    handle = durable.start_workflow(workflows.changing.using(run_timeout=timedelta(seconds=4)), 1)
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch=1, wakeup_at__isnull=False), "the run to fall asleep")
    monkeypatch.setitem(workflows._versions, "changed", "other code")
    handle.signal(workflows.approved("go"))
    wait_for(lambda: handle.status().status == "blocked", "the run to be parked")
    assert handle.status().wakeup_at == Dispatch.objects.get().deadline  # not half a minute later
    with pytest.raises(WorkflowTimedOut):
        handle.result(timeout=DEADLINE)
    assert handle.status().blocked is None
    assert_invariants(handle)


def test_a_run_that_is_held_without_a_time_to_wake_up_ends_at_its_deadline(make_worker):
    handle = durable.start_workflow(workflows.never_ends.using(run_timeout=LONG))
    expire(handle)
    Dispatch.objects.update(hold="paused")
    make_worker()
    with pytest.raises(WorkflowTimedOut):
        handle.result(timeout=DEADLINE)


def test_the_runs_of_a_dead_worker_time_out_too(make_worker, configure):
    configure(LEASE_SECONDS=4)
    handle = durable.start_workflow(workflows.never_ends.using(run_timeout=SHORT))
    give_to(past_worker(), handle)
    make_worker()
    with pytest.raises(WorkflowTimedOut):
        handle.result(timeout=DEADLINE)
    assert_invariants(handle)


def test_many_runs_time_out_together(make_worker):
    limited = workflows.never_ends.using(run_timeout=SHORT)
    handles = durable.start_workflows([limited.call() for _ in range(50)])
    for _ in range(3):
        make_worker()
    for handle in handles:
        with pytest.raises(WorkflowTimedOut):
            handle.result(timeout=DEADLINE)
    assert [entry.type for handle in handles for entry in handle.history()].count("RunTimedOut") == 50
    assert_all_invariants(handles)


@pytest.mark.server
def test_a_deadline_waits_for_no_row_that_a_caller_holds(worker):
    handle = durable.start_workflow(workflows.never_ends.using(run_timeout=SHORT))
    with paused(lambda: handle.signal(workflows.approved("yes"))):
        wait_for(lambda: dispatch.rows().filter(deadline__lt=clock.now()).exists(), "the deadline to pass")
        assert durable.start_workflow(workflows.chain, 2).result(timeout=DEADLINE) == 2  # others go on meanwhile
        assert not handle.status().is_closed
    with pytest.raises(WorkflowTimedOut):
        handle.result(timeout=DEADLINE)
    assert_invariants(handle)
