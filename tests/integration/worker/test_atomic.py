"""``atomic=True``: an effect is there if and only if the workflow has its result."""

from __future__ import annotations

import pytest

from django_durable import durable
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


def test_an_atomic_activity_writes_its_effect_once(worker):
    handles = [durable.start_workflow(workflows.effects, str(number), 4) for number in range(5)]
    for handle in handles:
        handle.result(timeout=DEADLINE)
    assert Entry.objects.filter(kind="atomic").count() == 10
    assert_all_invariants(handles)


def test_a_transaction_that_is_rolled_back_in_silence_is_a_failure(worker):
    handle = durable.start_workflow(workflows.catch, "flows.roll_back_silently", ["k"])
    failure = handle.result(timeout=DEADLINE)
    assert failure["type"] == "RolledBack"
    assert "set_rollback" in failure["message"]
    assert not Entry.objects.exists()
    assert_invariants(handle)


def test_a_hook_that_raises_after_the_commit_does_not_undo_the_success(worker):
    handle = durable.start_workflow(workflows.call, "flows.commit_then_raise", ["k"])
    assert handle.result(timeout=DEADLINE) == "k"
    assert Entry.objects.count() == 1
    assert_invariants(handle)


def test_a_failed_attempt_leaves_no_effect(worker):
    handle = durable.start_workflow(workflows.call, "flows.fail_atomically_once", ["k"])
    assert handle.result(timeout=DEADLINE) == 2
    assert list(Entry.objects.values_list("attempt", flat=True)) == [2]
    assert_invariants(handle)


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3])
def test_giving_up_an_atomic_activity_and_its_effect_exclude_each_other(worker, seconds):
    handles = [
        durable.start_workflow(workflows.race_atomic.using(workflow_id=f"race-{number}"), seconds, 0.1)
        for number in range(4)
    ]
    results = [handle.result(timeout=DEADLINE) for handle in handles]
    wait_for(lambda: worker._slots.taken() == 0, "the threads to end")
    for handle, result in zip(handles, results, strict=True):
        assert Entry.objects.filter(key=handle.workflow_id).exists() == (result != "too late")
    assert_all_invariants(handles)


@pytest.mark.server  # on SQLite nobody can write while the activity has its transaction open
@pytest.mark.parametrize("end", ["cancel", "terminate"])
def test_an_atomic_activity_of_a_run_that_is_ended_meanwhile_has_no_effect(worker, make_gate, end):
    gate = make_gate("ended")
    handle = durable.start_workflow(workflows.call, "flows.record_once_at_gate", ["ended"])
    wait_for(lambda: worker._slots.taken(), "the activity to run")
    getattr(handle, end)()
    wait_for(lambda: handle.status().is_closed, "the end")
    gate.set()
    wait_for(lambda: worker._slots.taken() == 0, "the thread to end")
    assert not Entry.objects.exists()
    assert durable.start_workflow(workflows.chain, 2).result(timeout=DEADLINE) == 2
    assert_invariants(handle)


def test_a_cancellation_that_comes_after_the_effect_cannot_undo_it(worker):
    handle = durable.start_workflow(workflows.call, "flows.cancel_after_commit", ["k"])
    assert handle.result(timeout=DEADLINE) == "k"
    assert Entry.objects.count() == 1
    assert_invariants(handle)
