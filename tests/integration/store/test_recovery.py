"""Recovery: dead workers' chains and tasks are given back, in small steps that any worker can continue."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_durable.history import blocking
from django_durable.models import ActivityTask, Worker
from django_durable.store import claims, clock, database, dispatch, flush, leases, recovery, tasks
from tests.integration.store import chains
from tests.integration.store.sessions import Elsewhere, Session, paused

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_a_dead_worker_had_is_due_for_any_other_at_once() -> None:
    dead, other = chains.worker("dead"), chains.worker("other")
    lost = {chains.owned(dead).chain_id for _ in range(3)}
    kept = chains.owned(other)
    chains.die(dead)

    assert set(recovery.release_chains(recovery.dead_workers_with_work())) == lost

    again = chains.claim(other)
    assert {(one.chain_id, one.epoch, one.recoveries) for one in again} == {(chain, 2, 1) for chain in lost}
    assert chains.row(kept.chain_id).owner == other


def test_recovery_touches_nothing_of_a_worker_that_is_only_late() -> None:
    late = chains.worker()
    chains.owned(late)
    chains.expire(late)

    assert recovery.dead_workers_with_work() == []


@pytest.mark.server
def test_recovery_begins_only_when_the_declaration_has_committed() -> None:
    """Before that the fence would still let the worker through."""
    dead, judge = chains.worker("dead"), chains.worker("judge")
    claimed = chains.owned(dead)
    chains.expire(dead)

    with paused(lambda: leases.declare_dead(by=judge)) as declaring:
        assert recovery.dead_workers_with_work() == []
        declaring.rollback()
    assert chains.verdicts(flush.flush(dead, [chains.write(claimed)])) == ["written"]

    assert leases.declare_dead(by=judge) == [dead]
    assert recovery.dead_workers_with_work() == [dead]


def test_a_worker_that_comes_back_after_its_recovery_can_do_nothing() -> None:
    dead = chains.worker("dead")
    claimed = chains.owned(dead)
    chains.die(dead)
    recovery.release_chains([dead])
    [again] = chains.claim(chains.worker("other"))

    with pytest.raises(leases.WorkerFenced):
        flush.flush(dead, [chains.write(claimed)])
    dispatch.release(dead, [dispatch.Release(claimed.chain_id, claimed.epoch, None, True)])
    assert dispatch.park(dead, claimed.chain_id, blocked_by="x", delay=timedelta(0)) is False

    row = chains.row(claimed.chain_id)
    assert (row.epoch, row.hold, chains.history_of(claimed.run_id)) == (again.epoch, None, ["RunStarted"])
    assert row.owner != dead


@pytest.mark.server
def test_locked_chains_are_left_for_the_next_sweep(session: Session) -> None:
    dead = chains.worker()
    busy, free = chains.owned(dead).chain_id, chains.owned(dead).chain_id
    chains.die(dead)
    session.lock_for_end(busy)

    assert recovery.release_chains([dead]) == [free]
    assert recovery.dead_workers_with_work() == [dead]

    session.rollback()
    assert recovery.release_chains(recovery.dead_workers_with_work()) == [busy]
    assert recovery.dead_workers_with_work() == []


@pytest.mark.server
def test_a_sender_does_not_stand_in_the_way_of_recovery() -> None:
    dead = chains.worker()
    claimed = chains.owned(dead)
    chains.die(dead)

    with paused(lambda: chains.send(claimed.chain_id)):
        assert recovery.release_chains([dead]) == [claimed.chain_id]


def test_what_one_worker_began_to_recover_another_one_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "BATCH", 2)
    dead = chains.worker()
    lost = {chains.owned(dead).chain_id for _ in range(5)}
    chains.die(dead)

    steps = [recovery.release_chains(recovery.dead_workers_with_work())]  # and dies
    while left := recovery.dead_workers_with_work():
        steps.append(Elsewhere(lambda left=left: recovery.release_chains(left)).result())  # type: ignore[misc]

    assert [len(step) for step in steps] == [2, 2, 1]
    assert {chain for step in steps for chain in step} == lost


@pytest.mark.server
def test_two_sweeps_at_the_same_time_share_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "BATCH", 2)
    dead = chains.worker()
    lost = {chains.owned(dead).chain_id for _ in range(4)}
    chains.die(dead)

    with paused(lambda: recovery.release_chains([dead])) as other:
        mine = recovery.release_chains([dead])
        theirs = other.commit()

    assert len(mine) == len(theirs) == 2
    assert set(mine) | set(theirs) == lost
    assert all(chains.row(chain).recoveries == 1 for chain in lost)


def test_recoveries_without_progress_add_up() -> None:
    chain = chains.start()

    for times in (1, 2, 3):
        owner = chains.worker()
        suspects = times > claims.SUSPECT_AFTER
        assert len(chains.claim(owner, suspects=suspects)) == 1
        chains.die(owner)
        recovery.release_chains([owner])
        assert chains.row(chain).recoveries == times


def test_the_run_that_hung_its_worker_is_parked_and_the_others_go_on() -> None:
    dead = chains.worker()
    stuck, innocent = chains.owned(dead), chains.owned(dead)
    leases.retire(dead, stuck_run=stuck.run_id, stuck_where="shop/workflows.py:7")

    assert recovery.park_stuck([dead]) == [(stuck.run_id, "shop/workflows.py:7")]
    assert recovery.release_chains([dead]) == [innocent.chain_id]

    assert [one.chain_id for one in chains.claim(chains.worker())] == [innocent.chain_id]
    run = chains.run_of(stuck.chain_id)
    block = blocking.decode(run.blocked)
    assert block is not None
    assert (run.status, block.reason, block.where) == ("blocked", "stuck", "shop/workflows.py:7")


@pytest.mark.server
def test_parking_a_stuck_run_waits_for_no_row_that_a_caller_holds(session: Session) -> None:
    dead = chains.worker()
    stuck, innocent = chains.owned(dead), chains.owned(dead)
    leases.retire(dead, stuck_run=stuck.run_id)
    session.lock_for_end(stuck.chain_id)

    assert recovery.park_stuck([dead]) == []
    assert recovery.release_chains([dead]) == [innocent.chain_id]


def test_a_sweep_is_asked_for_while_there_is_something_to_sweep() -> None:
    dead, judge = chains.worker("dead"), chains.worker("judge")
    claimed = chains.owned(dead)
    assert leases.renew(judge).something_to_sweep is False

    chains.expire(dead)
    assert leases.renew(judge).something_to_sweep is True
    assert leases.declare_dead(by=judge) == [dead]
    assert leases.renew(judge).something_to_sweep is True
    assert recovery.release_chains([dead]) == [claimed.chain_id]
    assert leases.renew(judge).something_to_sweep is False


def test_dead_workers_are_forgotten_after_a_day_and_not_while_they_own_something() -> None:
    idle, loaded, fresh = chains.worker("idle"), chains.worker("loaded"), chains.worker("fresh")
    chains.owned(loaded)
    for one in (idle, loaded, fresh):
        leases.retire(one)
    long_ago = clock.read() - recovery.KEEP_DEAD - timedelta(minutes=1)
    Worker.objects.filter(pk__in=[idle, loaded]).update(expires_at=long_ago)

    recovery.forget_old_workers()

    assert set(Worker.objects.values_list("pk", flat=True)) == {loaded, fresh}


# Tasks of dead workers


def test_a_dead_workers_task_is_given_back_and_the_attempt_counts_as_an_interruption() -> None:
    dead, other = chains.worker("dead"), chains.worker("other")
    held = chains.held(dead, chains.owned(chains.worker("owner")))
    chains.die(dead)

    with database.writing():
        [lost] = recovery.abandoned_tasks([dead])
        tasks.interrupt(lost)

    task = ActivityTask.objects.get()
    assert (task.worker, task.deadline, task.interruptions, task.attempt) == (None, None, 1, 1)
    assert chains.claim_tasks(other) == [held._replace(worker=other, attempt=2)]


@pytest.mark.server
def test_two_sweeps_never_give_back_the_same_task() -> None:
    dead = chains.worker("dead")
    claimed = chains.owned(chains.worker("owner"))
    for key in ("a", "b"):
        chains.held(dead, claimed, key)
    chains.die(dead)

    with paused(lambda: [task.key for task in tasks.abandoned([dead], limit=1)]) as other, database.writing():
        mine = [task.key for task in tasks.abandoned([dead])]
        theirs = other.commit()

    assert sorted(mine + theirs) == ["a", "b"]
