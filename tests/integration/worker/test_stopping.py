"""A worker that stops hands everything over, and nothing runs twice."""

from __future__ import annotations

from django_durable import durable
from django_durable.models import ActivityTask, Dispatch, Worker
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


def test_a_stopping_worker_gives_its_run_away_while_its_activity_still_runs(make_worker, make_gate):
    gate = make_gate("handed over")
    first = make_worker()
    handle = durable.start_workflow(workflows.call, "flows.recorded_at_gate", ["handed over"])
    wait_for(lambda: Entry.objects.exists(), "the activity to run")
    first.stop()
    wait_for(lambda: Dispatch.objects.filter(owner=None).exists(), "the run to be given back")
    assert ActivityTask.objects.get().worker == first.id
    second = make_worker()
    wait_for(lambda: second.id, "the second worker")
    gate.set()
    assert handle.result(timeout=DEADLINE) == "handed over"
    assert first.join(DEADLINE)
    assert Entry.objects.count() == 1
    assert_invariants(handle)


def test_the_result_of_a_handed_over_activity_waits_if_nobody_takes_its_run(make_worker, make_gate):
    gate = make_gate("later")
    first = make_worker()
    handle = durable.start_workflow(workflows.wait_at_gate, "later", 2)
    wait_for(lambda: first._slots.taken() and len(handle.history()) > 1, "the activity to run")
    first.stop()
    gate.set()
    assert first.join(DEADLINE)
    assert handle.status().status == "running"
    make_worker()
    assert handle.result(timeout=DEADLINE) == "later"
    assert Entry.objects.count() == 2
    assert_invariants(handle)


def test_a_stopping_worker_does_not_carry_its_runs_to_their_end(make_worker, configure):
    configure(DRAIN_SECONDS=600)
    worker = make_worker()
    handles = [durable.start_workflow(workflows.chain, 100_000) for _ in range(3)]
    wait_for(lambda: all(len(handle.history()) > 10 for handle in handles), "some steps")
    worker.stop()
    assert worker.join(DEADLINE)
    assert {handle.status().status for handle in handles} == {"running"}
    assert not Dispatch.objects.exclude(owner=None).exists()
    assert not ActivityTask.objects.exclude(worker=None).exists()
    assert_all_invariants(handles)


def test_a_stopped_worker_has_left_nothing_under_its_id(make_worker):
    worker = make_worker()
    handles = durable.start_workflows([workflows.nap.call(3600), workflows.never_ends.call()])
    wait_for(lambda: all(handle.status().started_at for handle in handles), "the runs to begin")
    worker.stop()
    assert worker.join(DEADLINE)
    assert Worker.objects.get().dead
    assert not Dispatch.objects.exclude(owner=None).exists()


def test_an_activity_is_told_that_its_worker_stops(make_worker):
    worker = make_worker()
    handle = durable.start_workflow(workflows.call, "flows.until_stopping", [])
    wait_for(lambda: worker._slots.taken() and len(handle.history()) > 1, "the activity to run")
    worker.stop()
    assert worker.join(DEADLINE)
    make_worker()
    assert handle.result(timeout=DEADLINE) == "stopping"


def test_a_worker_that_is_forced_to_stop_leaves_what_others_finish(make_worker, make_gate):
    gate = make_gate("forced")
    first = make_worker()
    handle = durable.start_workflow(workflows.call, "flows.recorded_at_gate", ["forced"])
    wait_for(lambda: Entry.objects.exists(), "the activity to run")
    first.force_stop()
    assert first.join(DEADLINE)
    make_worker()
    wait_for(lambda: Entry.objects.count() == 2, "the activity to run again")
    gate.set()
    assert handle.result(timeout=DEADLINE) == "forced"
    assert_invariants(handle)


def test_a_burst_worker_ends_when_nothing_is_due(make_worker):
    handles = [durable.start_workflow(workflows.chain, 3) for _ in range(5)]  # more than there are slots
    sleeping = durable.start_workflow(workflows.nap, 3600)
    worker = make_worker(burst=True)
    assert worker.join(DEADLINE)
    assert [handle.result(timeout=0) for handle in handles] == [3] * 5
    assert sleeping.status().wakeup_at
    assert_all_invariants([*handles, sleeping])
