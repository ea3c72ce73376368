"""``start_to_close``: the workflow goes on, the attempt that cannot be stopped keeps its slot."""

from __future__ import annotations

from django_durable import durable
from django_durable.worker.worker import EXIT_LOST_SLOTS
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


def test_an_attempt_that_takes_too_long_is_tried_again(worker):
    handle = durable.start_workflow(workflows.call, "flows.too_slow", ["k", 2.0])
    assert handle.result(timeout=DEADLINE) == "k"
    assert Entry.objects.count() > 1
    assert_invariants(handle)


def test_an_async_attempt_that_takes_too_long_is_stopped_and_tried_again(worker):
    handle = durable.start_workflow(workflows.call, "flows.too_slow_async", ["k", 3600])
    assert handle.result(timeout=DEADLINE) == "k"
    wait_for(lambda: worker._slots.taken() == 0, "the slots to be free")
    assert_invariants(handle)


def test_the_last_timeout_fails_the_activity_and_its_threads_keep_their_slots(worker, make_gate):
    gate = make_gate("slow")
    handle = durable.start_workflow(workflows.catch, "flows.always_too_slow", ["slow"])
    failure = handle.result(timeout=DEADLINE)
    assert (failure["type"], failure["timeout"], failure["attempts"]) == ("TimeoutError", "start_to_close", 2)
    assert "start_to_close" in failure["message"]
    assert worker._slots.taken() == 2
    gate.set()
    wait_for(lambda: worker._slots.taken() == 0, "the threads to end")
    assert worker._slots.lost == 0
    assert_invariants(handle)


def test_a_worker_that_has_lost_half_its_slots_drains_and_ends(make_worker, make_gate):
    gate = make_gate("lost")
    worker = make_worker(concurrency=1, exit_code=EXIT_LOST_SLOTS)
    handle = durable.start_workflow(workflows.catch, "flows.always_too_slow", ["lost"])
    wait_for(lambda: worker.exit_code, "the worker to notice")
    gate.set()
    assert worker.join(DEADLINE)
    make_worker()
    assert handle.result(timeout=DEADLINE) == {}  # the second attempt finds the gate open
    assert_invariants(handle)


def test_an_atomic_activity_that_times_out_has_its_effect_if_and_only_if_the_workflow_knows(worker):
    handle = durable.start_workflow(workflows.catch, "flows.record_once_in_time", ["k", 1.0])
    failure = handle.result(timeout=DEADLINE)
    wait_for(lambda: worker._slots.taken() == 0, "the thread to end")
    assert Entry.objects.exists() == (failure == {})
    assert failure == {} or failure["timeout"] == "start_to_close"
    assert_invariants(handle)
