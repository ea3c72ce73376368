"""A worker process dies at each point of its work: what it leaves behind, and what the next worker makes of it.

The processes are real, and so are their deaths: SIGKILL at just that point, at the hands of ``dying_worker``.
"""

from __future__ import annotations

import pytest

from django_durable import durable
from django_durable.models import ActivityOutcome, ActivityTask, Dispatch, HistoryEvent, InboxMessage, Worker
from django_durable.store import clock
from django_durable.worker.worker import EXIT_STUCK
from tests.flows import activities, workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _short_leases(configure):
    """So that the dead are soon known to be dead."""
    configure(LEASE_SECONDS=1.5)


def types(handle):
    """What stands in a run's history."""
    return [event.type for event in handle.history()]


def executions(key):
    """How often the effects of this key have happened."""
    return Entry.objects.filter(key=key).count()


def assert_owned_by_the_dead(handle):
    """The run still belongs to the only worker that has ever had it."""
    chain = Dispatch.objects.get(pk=handle.run_id)
    assert (chain.owner, chain.epoch) == (Worker.objects.get().pk, 1)


# The run


def test_a_worker_that_dies_before_its_claim_commits_has_claimed_nothing(make_dying_worker, make_worker, configure):
    handle = durable.start_workflow(workflows.effects, "k", 2)
    make_dying_worker("claiming").wait_for_death()
    assert Dispatch.objects.filter(owner=None, epoch=0).exists()
    configure(LEASE_SECONDS=60)  # the next worker does not live long enough to declare anybody dead
    make_worker()
    assert handle.result(timeout=DEADLINE) == ["k/0", "k/1"]
    assert not Worker.objects.filter(dead=True).exists()
    assert Entry.objects.count() == 2
    assert_invariants(handle)


def test_a_run_that_was_claimed_and_never_looked_at_is_taken_over_and_nothing_is_counted(
    make_dying_worker, make_worker
):
    handle = durable.start_workflow(workflows.effects, "k", 2)
    make_dying_worker("claimed").wait_for_death()
    assert_owned_by_the_dead(handle)
    assert types(handle) == ["RunStarted"]
    make_worker()
    assert handle.result(timeout=DEADLINE) == ["k/0", "k/1"]
    assert list(Entry.objects.values_list("attempt", flat=True)) == [1, 1]
    assert_invariants(handle)


@pytest.mark.parametrize("point", ["computed", "writing"])
def test_commands_that_were_never_committed_are_computed_again_and_nothing_was_acted_on(
    make_dying_worker, make_worker, point
):
    handle = durable.start_workflow(workflows.effects, "k", 2)
    make_dying_worker(point).wait_for_death()
    assert_owned_by_the_dead(handle)
    assert types(handle) == ["RunStarted"]
    assert not Entry.objects.exists()
    make_worker()
    assert handle.result(timeout=DEADLINE) == ["k/0", "k/1"]
    assert list(Entry.objects.values_list("attempt", flat=True)) == [1, 1]
    assert_invariants(handle)


def test_a_commit_whose_answer_its_worker_did_not_live_to_hear_stands(make_dying_worker, make_worker):
    """Committed, and not acted on: the next worker begins the activity."""
    handle = durable.start_workflow(workflows.effects, "k", 2)
    make_dying_worker("committing").wait_for_death()
    wait_for(lambda: types(handle) == ["RunStarted", "ActivityScheduled"], "the commit to be through")
    assert_owned_by_the_dead(handle)
    assert not Entry.objects.exists()
    make_worker()
    assert handle.result(timeout=DEADLINE) == ["k/0", "k/1"]
    assert (executions("k/0"), executions("k/1")) == (1, 1)
    assert_invariants(handle)


def test_a_message_that_met_the_release_of_a_dying_worker_is_found_by_the_next_poll(
    make_dying_worker, make_worker, configure
):
    configure(LINGER_SECONDS=0)
    handle = durable.start_workflow(workflows.approval, 3600.0)
    make_dying_worker("released").wait_for_death()
    chain = Dispatch.objects.get()
    assert chain.owner is None
    assert chain.wakeup_at
    assert chain.wakeup_at > clock.read(), "the run must be asleep"
    assert InboxMessage.objects.count() == 1
    make_worker()
    assert handle.result(timeout=DEADLINE) == "overtaken"
    assert_invariants(handle)


# Local activities


@pytest.mark.parametrize(("point", "begun"), [("committed", 0), ("running", 1), ("finished", 1)])
def test_a_local_activity_is_executed_again_with_the_same_key_and_the_interruption_costs_no_attempt(
    make_dying_worker, make_worker, point, begun
):
    handle = durable.start_workflow(workflows.call, "flows.record_own_key", [])
    make_dying_worker(point).wait_for_death()
    assert_owned_by_the_dead(handle)
    scheduled = handle.history()[-1]
    assert (scheduled.type, scheduled.data["worker"]) == ("ActivityScheduled", Worker.objects.get().pk)
    assert not ActivityTask.objects.exists()
    assert Entry.objects.count() == begun
    make_worker()
    key = handle.result(timeout=DEADLINE)
    assert key == scheduled.data["key"]
    assert list(Entry.objects.values_list("key", flat=True)) == [key] * (begun + 1)
    completed = next(event for event in handle.history() if event.type == "ActivityCompleted")
    assert completed.data.get("attempts", 1) == 1
    assert Entry.objects.latest("pk").attempt == 2, "the attempt that was interrupted is counted as one"
    assert_invariants(handle)


@pytest.mark.parametrize(("point", "begun"), [("committed", 0), ("running", 1), ("finished", 1)])
def test_a_local_activity_that_may_run_at_most_once_fails_as_interrupted(make_dying_worker, make_worker, point, begun):
    handle = durable.start_workflow(workflows.catch, "flows.record_at_most_once", ["once", "k"])
    make_dying_worker(point).wait_for_death()
    assert_owned_by_the_dead(handle)
    make_worker()
    assert handle.result(timeout=DEADLINE)["interrupted"]
    assert executions("k") == begun
    assert_invariants(handle)


# Atomic activities


@pytest.fixture
def begun_here(monkeypatch):
    """Keys of the effects that were begun in this process, committed or not."""
    noted = []
    original = activities.note

    def note(kind, key):
        noted.append(key)
        original(kind, key)

    monkeypatch.setattr(activities, "note", note)
    return noted


@pytest.mark.parametrize("point", ["atomic", "finished"])
def test_an_atomic_activity_that_has_committed_is_not_executed_again(make_dying_worker, make_worker, begun_here, point):
    handle = durable.start_workflow(workflows.call, "flows.record_once", ["atomic", "k"])
    make_dying_worker(point).wait_for_death()
    assert_owned_by_the_dead(handle)
    assert types(handle) == ["RunStarted", "ActivityScheduled"]
    assert ActivityOutcome.objects.count() == executions("k") == 1
    make_worker()
    assert handle.result(timeout=DEADLINE) == "k"
    assert executions("k") == 1
    assert begun_here == []
    assert_invariants(handle)


def test_an_atomic_activity_that_had_not_committed_has_had_no_effect_and_is_executed_again(
    make_dying_worker, make_worker
):
    handle = durable.start_workflow(workflows.call, "flows.record_once", ["atomic", "k"])
    make_dying_worker("running").wait_for_death()
    assert ActivityOutcome.objects.count() == executions("k") == 0
    make_worker()
    assert handle.result(timeout=DEADLINE) == "k"
    assert Entry.objects.get().attempt == 2
    assert_invariants(handle)


# Activities at a worker that does not own the run


def spilled(make_worker, name, *args):
    """A run that sleeps, with its activity waiting for a worker of another queue."""
    first = make_worker()
    handle = durable.start_workflow(workflows.call_elsewhere, f"flows.{name}", list(args))
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch__gt=0), "the run to be given back")
    first.stop()
    assert first.join(DEADLINE)
    return handle


def test_the_result_of_a_remote_activity_outlives_its_worker(make_worker, make_dying_worker):
    handle = spilled(make_worker, "record", "remote", "k")
    make_dying_worker("reported", queues="elsewhere").wait_for_death()
    assert InboxMessage.objects.count() == executions("k") == 1
    assert not ActivityTask.objects.exists()
    make_worker()
    assert handle.result(timeout=DEADLINE) == "k"
    assert executions("k") == 1
    assert_invariants(handle)


def test_a_task_whose_activity_has_committed_already_is_claimed_but_not_executed(
    make_worker, make_dying_worker, begun_here
):
    handle = spilled(make_worker, "record_once", "atomic", "k")
    make_dying_worker("atomic", queues="elsewhere").wait_for_death()
    assert ActivityTask.objects.count() == ActivityOutcome.objects.count() == executions("k") == 1
    make_worker(queues=("default", "elsewhere"))
    assert handle.result(timeout=DEADLINE) == "k"
    assert executions("k") == 1
    assert begun_here == []
    assert_invariants(handle)


# Not dead, only still


@pytest.mark.server  # on SQLite a process that stands still inside a transaction stops all writers
def test_a_worker_that_stands_still_inside_a_transaction_is_taken_over_and_writes_nothing_when_it_goes_on(
    make_dying_worker, make_worker
):
    handle = durable.start_workflow(workflows.effects, "k", 4)
    still = make_dying_worker("stopped")
    still.wait_until_stopped()
    assert_owned_by_the_dead(handle)
    before = Worker.objects.get().pk
    make_worker()
    assert handle.result(timeout=DEADLINE) == ["k/0", "k/1", "k/2", "k/3"]
    assert Worker.objects.get(pk=before).dead
    recorded, effects = list(HistoryEvent.objects.values()), list(Entry.objects.values())
    still.go_on()
    name = Worker.objects.get(pk=before).name
    wait_for(lambda: Worker.objects.filter(name=name, dead=False), "it to register anew")
    assert list(HistoryEvent.objects.values()) == recorded
    assert list(Entry.objects.values()) == effects
    assert len(effects) == 4
    still.terminate()
    assert still.wait() == 0
    assert_invariants(handle)


def test_a_worker_that_cannot_stop_a_workflows_code_names_the_run_and_ends(make_dying_worker, make_worker):
    """The run is parked without another try, and what else the worker had goes on elsewhere."""
    hanging = durable.start_workflow(workflows.hangs, 3600.0)
    assert make_dying_worker("never").wait() == EXIT_STUCK
    assert Worker.objects.get().stuck_run == hanging.run_id
    make_worker()
    status = wait_for(lambda: (now := hanging.status()).status == "blocked" and now, "the run to be parked")
    assert status.blocked["reason"] == "stuck"
    assert "workflows.py:" in status.blocked["where"]
    assert durable.start_workflow(workflows.chain, 2).result(timeout=DEADLINE) == 2
    assert_invariants(hanging)
