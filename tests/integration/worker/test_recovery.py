"""What a dead worker had is taken over by whoever lives."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F

from django_durable import durable
from django_durable.models import ActivityTask, Dispatch, Worker
from django_durable.store import claims, clock
from django_durable.worker import maintenance, overdue
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.deaths import give_to, past_worker
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


@pytest.fixture(autouse=True)
def _frequent_heartbeats(configure):
    """What a dead worker had is found at the next heartbeat of another one, six in each lease."""
    configure(LEASE_SECONDS=4)


def test_the_runs_of_a_dead_worker_are_taken_over(make_worker):
    handles = [durable.start_workflow(workflows.chain, 2) for _ in range(5)]
    give_to(past_worker(), *handles)
    make_worker()
    assert [handle.result(timeout=DEADLINE) for handle in handles] == [2] * 5
    assert_all_invariants(handles)


def test_a_worker_whose_lease_has_expired_is_declared_dead_and_its_runs_are_taken_over(make_worker, configure):
    configure(LEASE_SECONDS=1.5)
    handle = durable.start_workflow(workflows.chain, 2)
    late = past_worker(dead=False)
    give_to(late, handle)
    make_worker()
    assert handle.result(timeout=DEADLINE) == 2
    assert Worker.objects.get(pk=late).dead
    assert_invariants(handle)


def test_a_worker_with_nothing_to_do_and_a_short_lease_is_alive_enough_to_judge(make_worker, configure):
    configure(LEASE_SECONDS=1.5, POLL_SECONDS=60.0)
    make_worker()
    handle = durable.start_workflow(workflows.chain, 2)
    assert handle.result(timeout=DEADLINE) == 2
    late = past_worker(dead=False)
    wait_for(lambda: Worker.objects.get(pk=late).dead, "the one whose lease has expired to be declared dead")


def test_the_runs_of_a_worker_that_may_live_are_left_alone(make_worker, configure):
    configure(LEASE_SECONDS=0.6)
    handle = durable.start_workflow(workflows.chain, 2)
    other = past_worker(dead=False, expired=False)
    give_to(other, handle)
    worker = make_worker()
    wait_for(worker._heartbeat.may_judge, "the worker to be allowed to judge")
    maintenance.recover()
    durable.start_workflow(workflows.chain, 2).result(timeout=DEADLINE)
    assert Dispatch.objects.get(pk=handle.run_id).owner == other


def test_the_tasks_of_a_dead_worker_are_tried_again_and_the_interruption_costs_no_attempt(make_worker):
    make_worker()
    handle = durable.start_workflow(workflows.call, "flows.elsewhere", ["k"])
    wait_for(lambda: ActivityTask.objects.exists(), "the task")
    ActivityTask.objects.update(worker=past_worker(), attempt=1)
    make_worker(queues=("elsewhere",))
    assert handle.result(timeout=DEADLINE) == "k"
    assert Entry.objects.get().attempt == 2
    completed = next(entry for entry in handle.history() if entry.type == "ActivityCompleted")
    assert completed.data["attempts"] == 1
    assert_invariants(handle)


def test_an_activity_of_which_its_living_owner_has_lost_track_is_executed_by_the_next_one(make_worker, make_gate):
    gate = make_gate("lost")
    make_worker()
    handle = durable.start_workflow(workflows.gather_at_gate, "lost", 1)
    wait_for(lambda: Entry.objects.count() == 1, "the activity to begin")
    Dispatch.objects.update(owner=None, epoch=F("epoch") + 1, wakeup_at=clock.now())
    wait_for(lambda: Entry.objects.count() == 2, "the activity to begin again")
    gate.set()
    assert handle.result(timeout=DEADLINE) == 1
    assert_invariants(handle)


def test_an_activity_that_is_interrupted_too_often_fails(make_worker, configure):
    configure(MAX_INTERRUPTIONS=2)
    make_worker()
    handle = durable.start_workflow(workflows.catch, "flows.elsewhere", ["k"])
    wait_for(lambda: ActivityTask.objects.exists(), "the task")
    ActivityTask.objects.update(worker=past_worker(), attempt=3, interruptions=2)
    maintenance.recover()  # or the worker's own sweep, if it comes first
    failure = handle.result(timeout=DEADLINE)
    assert failure["interrupted"]
    assert "3 times" in failure["message"]
    assert not Entry.objects.exists()
    assert_invariants(handle)


def test_an_attempt_whose_deadline_has_passed_at_a_silent_worker_is_tried_again(make_worker):
    make_worker()
    handle = durable.start_workflow(workflows.call, "flows.elsewhere", ["k"])
    wait_for(lambda: ActivityTask.objects.exists(), "the task")
    silent = past_worker(dead=False, expired=False)
    ActivityTask.objects.update(worker=silent, attempt=1, deadline=clock.plus(clock.now(), -timedelta(minutes=1)))
    overdue.sweep()  # or the worker's own, if it comes first
    wait_for(lambda: ActivityTask.objects.filter(worker=None, attempt=1), "the task to be given back")
    make_worker(queues=("elsewhere",))
    assert handle.result(timeout=DEADLINE) == "k"
    assert_invariants(handle)


# Poisonous runs


def test_a_run_that_was_recovered_twice_without_progress_is_claimed_alone(make_worker, make_gate):
    gate = make_gate("suspect")
    suspect = durable.start_workflow(workflows.wait_at_gate, "suspect")
    Dispatch.objects.update(recoveries=claims.SUSPECT_AFTER)
    worker = make_worker()
    wait_for(lambda: worker._slots.taken(), "the suspect to be claimed")
    others = [durable.start_workflow(workflows.echo, number) for number in range(3)]
    looks = worker.engine.progress + 20
    wait_for(lambda: worker.engine.progress >= looks, "the worker to look again")
    assert {handle.status().status for handle in others} == {"pending"}
    gate.set()
    assert suspect.result(timeout=DEADLINE) == "suspect"
    assert [handle.result(timeout=DEADLINE) for handle in others] == [0, 1, 2]


def test_a_suspect_does_not_share_the_claim_that_takes_it(make_worker, make_gate):
    gate = make_gate("suspect")
    durable.start_workflow(workflows.wait_at_gate, "suspect")
    Dispatch.objects.update(recoveries=claims.SUSPECT_AFTER)
    for _ in range(3):
        durable.start_workflow(workflows.wait_at_gate, "suspect")
    worker = make_worker()
    wait_for(lambda: worker._slots.taken() in (1, 3), "the first claim")
    looks = worker.engine.progress + 20
    wait_for(lambda: worker.engine.progress >= looks, "the worker to look again")
    owned = set(Dispatch.objects.filter(owner=worker.id).values_list("recoveries", flat=True))
    assert len(owned) == 1
    gate.set()
    wait_for(lambda: not Dispatch.objects.exists(), "all runs to end")


def test_progress_clears_the_suspicion(worker):
    handle = durable.start_workflow(workflows.approval)
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch__gt=0), "the run to be given back")
    Dispatch.objects.update(recoveries=claims.SUSPECT_AFTER, wakeup_at=clock.now())
    handle.signal(workflows.approved("yes"))
    assert handle.result(timeout=DEADLINE) == "yes"
    nap = durable.start_workflow(workflows.nap, 3600)
    Dispatch.objects.filter(pk=nap.run_id, epoch=0).update(recoveries=claims.SUSPECT_AFTER)
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch__gt=0, recoveries=0), "the suspicion to be gone")


@pytest.fixture
def visits():
    workflows.visits.clear()
    return workflows.visits


def test_a_run_that_took_five_workers_along_is_parked_without_running_its_code(make_worker, visits):
    handle = durable.start_workflow(workflows.visited)
    Dispatch.objects.update(recoveries=claims.PARK_AFTER)
    make_worker()
    status = wait_for(lambda: (now := handle.status()).status == "blocked" and now, "the run to be parked")
    assert status.blocked["reason"] == "crashing"
    assert visits == []
    assert Dispatch.objects.get().recoveries == claims.PARK_AFTER - 1, "it must be alone when it is tried again"
    assert durable.start_workflow(workflows.echo, 1).result(timeout=DEADLINE) == 1


def test_each_recovery_without_progress_is_counted(transactional_db):
    handle = durable.start_workflow(workflows.echo, 1)
    for times in (1, 2):
        give_to(past_worker(), handle)
        maintenance.recover()
        assert Dispatch.objects.filter(owner=None, recoveries=times).exists()


def test_a_run_that_hung_its_worker_is_parked_by_recovery_and_not_offered_to_the_next_one(make_worker, visits):
    handle = durable.start_workflow(workflows.visited)
    dead = past_worker()
    Worker.objects.filter(pk=dead).update(stuck_run=handle.run_id, stuck_where="flows.py:1")
    give_to(dead, handle)
    worker = make_worker()
    status = wait_for(lambda: (now := handle.status()).status == "blocked" and now, "the run to be parked")
    assert (status.blocked["reason"], status.blocked["where"]) == ("stuck", "flows.py:1")
    worker._maintenance._slow_round()
    looks = worker.engine.progress + 20
    wait_for(lambda: worker.engine.progress >= looks, "the worker to look again")
    assert handle.status().status == "blocked"
    assert visits == []
    Dispatch.objects.update(wakeup_at=F("wakeup_at") - timedelta(hours=2))  # its pause is over
    handle.signal(workflows.approved("yes"))
    assert handle.result(timeout=DEADLINE) == "yes"


def test_a_run_that_hangs_each_worker_that_tries_it_is_tried_ever_more_seldom(transactional_db):
    handle = durable.start_workflow(workflows.echo, 1)
    for times, minutes in enumerate((10, 20, 40, 80, 160, 240, 240), start=1):
        dead = past_worker()
        Worker.objects.filter(pk=dead).update(stuck_run=handle.run_id, stuck_where="flows.py:1")
        give_to(dead, handle)
        maintenance.recover()
        row = Dispatch.objects.get()
        assert (row.owner, row.hold) == (None, "blocked")
        assert row.wakeup_at is not None
        assert timedelta(minutes=minutes - 2) < row.wakeup_at - clock.read() <= timedelta(minutes=minutes)
        block = handle.status().blocked
        assert block is not None
        assert block["times"] == times
