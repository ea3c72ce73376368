"""Workers that die while runs are reset, retried and paused: SIGKILL at each point, by ``dying_worker``'s own hand."""

from __future__ import annotations

from collections import Counter

import pytest

from django_durable import WorkflowFailed, durable
from django_durable.client import WorkflowHandle
from django_durable.models import Dispatch, InboxMessage, WorkflowRun
from tests.flows import activities, workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_all_invariants
from tests.integration.worker.running import DEADLINE, wait_for

POINTS = ("claimed", "writing", "committing", "committed", "running", "atomic", "finished")


@pytest.fixture(autouse=True)
def _short_leases(configure):
    configure(LEASE_SECONDS=1.5)


@pytest.fixture(autouse=True)
def mishaps():
    activities.mishaps.clear()
    yield activities.mishaps
    activities.mishaps.clear()


@pytest.fixture
def alive(make_worker):
    """A worker that works until it is asked to end in order; calling it does so."""
    worker = make_worker()

    def end():
        worker.stop()
        assert worker.join(DEADLINE)

    return end


def effects(kind):
    """How often each effect of that kind is there."""
    return Counter(Entry.objects.filter(kind=kind).values_list("key", flat=True))


def kinds(handle):
    return [entry.type for entry in handle.history()]


def place(handle, kind):
    return next(entry.sequence for entry in handle.history() if entry.type == kind)


def begun():
    """A run that has taken its first step and its first signal, and waits for the second."""
    handle = durable.start_workflow(workflows.steps_and_waits, "k")
    wait_for(lambda: kinds(handle)[-1] == "ActivityCompleted", "the first step")
    handle.signal(workflows.approved("first"))
    wait_for(lambda: kinds(handle)[-1] == "SignalReceived", "the signal")
    wait_for(lambda: Dispatch.objects.filter(owner=None), "the run to wait")
    assert effects("step") == {"k/1": 1}
    return handle


def assert_chain(handle):
    """Every run of the chain is as it must be, and nothing is left to do."""
    runs = WorkflowRun.objects.filter(chain_id=handle.run_id)
    assert_all_invariants([WorkflowHandle(run.workflow_id, run.pk) for run in runs])
    assert not Dispatch.objects.exists()
    assert not InboxMessage.objects.exists()


# Runs that go on after their end


@pytest.mark.parametrize("point", POINTS)
def test_a_failed_run_that_is_retried_outlives_the_worker_that_takes_it(
    alive, make_dying_worker, make_worker, mishaps, point
):
    mishaps["k/2"] = 1
    handle = begun()
    handle.signal(workflows.approved("go"))
    with pytest.raises(WorkflowFailed):
        handle.result(timeout=DEADLINE)
    alive()
    handle.retry_failed()
    make_dying_worker(point).wait_for_death()
    make_worker()
    assert handle.result(timeout=DEADLINE) == ["k/1", "first", "go", "k/2", "k/3"]
    assert effects("atomic") == {"k/2": 1}
    assert effects("step")["k/1"] == 1
    assert 1 <= effects("step")["k/3"] <= 2
    assert_chain(handle)


@pytest.mark.parametrize("point", POINTS)
def test_a_closed_run_that_is_reset_outlives_the_worker_that_takes_it(alive, make_dying_worker, make_worker, point):
    handle = begun()
    handle.signal(workflows.approved("go"))
    handle.result(timeout=DEADLINE)
    alive()
    handle.reset(to_event=place(handle, "SignalReceived"))
    make_dying_worker(point).wait_for_death()
    make_worker()
    assert handle.result(timeout=DEADLINE) == ["k/1", "first", "go", "k/2", "k/3"]
    assert effects("atomic") == {"k/2": 2}, "once in each of the two runs"
    assert effects("step")["k/1"] == 1
    assert 2 <= effects("step")["k/3"] <= 3
    assert_chain(handle)


# Runs whose owner has died


@pytest.mark.parametrize("point", POINTS)
def test_a_run_of_a_dead_worker_can_be_reset_before_anybody_knows_that_it_is_dead(
    alive, make_dying_worker, make_worker, configure, point
):
    configure(LEASE_SECONDS=60)  # and nobody will know during this test
    handle = begun()
    alive()
    handle.signal(workflows.approved("go"))
    make_dying_worker(point).wait_for_death()
    assert Dispatch.objects.get().owner is not None
    before = effects("atomic")
    reset = handle.reset(to_event=place(handle, "SignalReceived"))
    make_worker()
    assert reset.result(timeout=DEADLINE) == ["k/1", "first", "go", "k/2", "k/3"]
    assert effects("atomic")["k/2"] == before["k/2"] + 1, "what the first run had done is its own"
    assert_chain(handle)


@pytest.mark.parametrize("point", POINTS)
def test_a_run_of_a_dead_worker_can_be_paused_and_the_pause_is_in_its_history(
    alive, make_dying_worker, make_worker, point
):
    handle = begun()
    alive()
    handle.signal(workflows.approved("go"))
    make_dying_worker(point).wait_for_death()
    assert Dispatch.objects.get().owner is not None
    assert handle.pause("what has happened?")
    make_worker()
    wait_for(lambda: "RunPaused" in kinds(handle), "the pause to take effect")
    assert handle.status().status == "paused"
    before = kinds(handle)
    assert handle.resume()
    assert handle.result(timeout=DEADLINE) == ["k/1", "first", "go", "k/2", "k/3"]
    assert kinds(handle)[: len(before) + 1] == [*before, "RunResumed"]
    assert effects("atomic") == {"k/2": 1}
    assert_chain(handle)


# Workers that die of what they hear


@pytest.mark.parametrize("point", ["pausing", "settling", "rested"])
def test_a_worker_that_dies_as_it_pauses_a_run_leaves_it_paused(make_dying_worker, make_worker, point):
    handle = durable.start_workflow(workflows.effects, "k", 40, 0.05)
    dying = make_dying_worker(point)
    wait_for(lambda: Entry.objects.count() > 3, "some steps")
    handle.pause("enough")
    dying.wait_for_death()
    assert handle.status().status == "paused"
    make_worker()
    wait_for(lambda: kinds(handle).count("RunPaused") == 1, "the pause to take effect")
    wait_for(lambda: Dispatch.objects.filter(owner=None, hold="paused"), "the run to be given back")
    before = kinds(handle)
    handle.resume()
    assert len(handle.result(timeout=DEADLINE)) == 40
    assert kinds(handle)[: len(before) + 1] == [*before, "RunResumed"]
    assert set(effects("atomic").values()) == {1}
    assert_chain(handle)


def test_a_worker_that_dies_as_it_hears_of_a_reset_has_lost_nothing(make_dying_worker, make_worker):
    handle = durable.start_workflow(workflows.effects, "k", 40, 0.05)
    dying = make_dying_worker("dropping")
    wait_for(lambda: kinds(handle).count("ActivityCompleted") > 3, "some steps")
    done = place(handle, "ActivityCompleted")
    reset = handle.reset(to_event=done + 2)
    dying.wait_for_death()
    make_worker()
    assert len(reset.result(timeout=DEADLINE)) == 40
    assert effects("plain")["k/0"] + effects("atomic")["k/0"] == 1, "the first step is not done again"
    assert_chain(handle)
