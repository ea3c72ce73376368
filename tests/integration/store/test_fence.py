"""The fence: what a worker that was declared dead may no longer do, and how long a stopped one can stand in the way."""

from __future__ import annotations

import dataclasses
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction

from django_durable.models import Worker
from django_durable.store import (
    clock,
    database,
    dispatch,
    flush,
    inbox,
    leases,
    look,
    missing,
    outages,
    outcomes,
    recovery,
)
from django_durable.worker import heartbeat, overdue
from tests.integration.store import chains, sessions
from tests.integration.store.sessions import Elsewhere, Session, paused, until

pytestmark = pytest.mark.django_db(transaction=True)

LIMITS = {
    "postgresql": [
        "current_setting('lock_timeout')",
        "current_setting('statement_timeout')",
        "current_setting('idle_in_transaction_session_timeout')",
    ],
    "mysql": ["@@innodb_lock_wait_timeout", "@@max_statement_time", "@@idle_write_transaction_timeout"],
}
LIMITED = {"postgresql": ["200ms", "2s", "2s"], "mysql": [1, 2, 2]}  # MariaDB waits for whole seconds


def shown() -> list[Any]:
    """The limits of this connection as they are now."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT " + ", ".join(LIMITS[connection.vendor]))
        return list(cursor.fetchone())


def wanted(owner: int) -> look.Wanted:
    """A look that takes whatever there is."""
    return look.Wanted(
        worker=owner,
        queues=("default",),
        definitions=[chains.DEFINITION],
        runs=10,
        suspects=0,
        activities=((("tests.activity",), 10),),
        messages=True,
    )


def test_a_worker_that_was_declared_dead_writes_nothing() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    chains.die(owner)
    before = chains.everything_stored()

    for write in (chains.write(claimed), chains.write(claimed, ends=True)):
        with pytest.raises(leases.WorkerFenced):
            flush.flush(owner, [write])

    assert chains.everything_stored() == before
    assert chains.history_of(claimed.run_id) == ["RunStarted"]


def test_a_worker_that_was_declared_dead_claims_nothing() -> None:
    owner = chains.worker()
    chain = chains.start()
    chains.die(owner)

    with pytest.raises(leases.WorkerFenced):
        look.look(wanted(owner))

    assert chains.row(chain).owner is None


def test_a_worker_whose_row_is_gone_is_dead() -> None:
    with pytest.raises(leases.WorkerFenced), leases.fenced(4_711):
        pass


def test_an_expired_lease_alone_stops_nobody() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    chains.expire(owner)

    assert chains.verdicts(flush.flush(owner, [chains.write(claimed)])) == ["written"]


def test_a_late_heartbeat_renews_a_lease_that_nobody_has_marked() -> None:
    owner = chains.worker()
    chains.expire(owner)

    assert leases.renew(owner).alive is True

    assert Worker.objects.get(pk=owner).expires_at > clock.read()
    assert leases.declare_dead(by=chains.worker("other")) == []


def test_a_heartbeat_does_not_bring_the_dead_back() -> None:
    owner = chains.worker()
    chains.die(owner)

    assert leases.renew(owner).alive is False

    assert Worker.objects.get(pk=owner).dead is True


def test_only_workers_whose_lease_has_expired_are_declared_dead() -> None:
    late, lively, judge = chains.worker("late"), chains.worker("lively"), chains.worker("judge")
    chains.expire(late, judge)

    assert leases.declare_dead(by=judge) == [late]

    assert leases.living([late, lively, judge]) == {lively, judge}


def test_a_worker_that_gives_itself_up_is_dead_at_once() -> None:
    owner = chains.worker()

    leases.retire(owner)

    with pytest.raises(leases.WorkerFenced), leases.fenced(owner):
        pass


def test_ids_of_workers_are_never_used_again() -> None:
    first = chains.worker()
    Worker.objects.all().delete()

    assert chains.worker() > first


# Races with the declaration


@pytest.mark.server
@pytest.mark.parametrize(("commits", "dead"), [(True, False), (False, True)])
def test_a_declaration_waits_for_no_heartbeat_and_looks_again_after_it(commits: bool, dead: bool) -> None:
    owner, judge = chains.worker("owner"), chains.worker("judge")
    chains.expire(owner)

    with paused(lambda: leases.renew(owner)) as heartbeat:
        assert leases.declare_dead(by=judge) == []
        heartbeat.commit() if commits else heartbeat.rollback()

    assert leases.declare_dead(by=judge) == ([owner] if dead else [])


@pytest.mark.server
def test_a_lease_that_was_renewed_between_the_look_and_the_lock_is_respected() -> None:
    owner, judge = chains.worker("owner"), chains.worker("judge")
    chains.expire(owner)

    def renew_first(execute: object, sql: str, *rest: object) -> object:
        if "FOR UPDATE" in sql:
            Elsewhere(lambda: leases.renew(owner)).result()
        return execute(sql, *rest)  # type: ignore[operator]

    with connection.execute_wrapper(renew_first):
        assert leases.declare_dead(by=judge) == []

    assert Worker.objects.get(pk=owner).dead is False


@pytest.mark.server
def test_expiry_is_judged_by_the_clock_of_the_moment_and_not_of_the_transactions_start() -> None:
    """A transaction's own time stands still: by it, a lease that has just run out would still be good."""
    owner, judge = chains.worker("owner"), chains.worker("judge")

    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT now()")
            [begun] = cursor.fetchone()
        expires_at = clock.read() + timedelta(milliseconds=1)
        Elsewhere(lambda: Worker.objects.filter(pk=owner).update(expires_at=expires_at)).result()
        until(lambda: clock.read() > expires_at)
        assert clock.as_moment(begun) < expires_at
        assert leases.declare_dead(by=judge) == [owner]


@pytest.mark.server
def test_the_fence_is_not_deceived_by_a_transaction_that_began_while_the_worker_lived() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)

    with transaction.atomic():
        chains.history_of(claimed.run_id)
        Elsewhere(lambda: chains.die(owner)).result()
        with pytest.raises(leases.WorkerFenced):
            leases.prove_alive(owner)


@pytest.mark.server
def test_a_worker_cannot_be_declared_dead_while_it_commits() -> None:
    owner, judge = chains.worker("owner"), chains.worker("judge")
    chains.expire(owner)

    with paused(lambda: leases.prove_alive(owner)) as committing:
        assert leases.declare_dead(by=judge) == []
        committing.commit()

    assert leases.declare_dead(by=judge) == [owner]


@pytest.mark.server
def test_the_fence_and_the_heartbeat_do_not_wait_for_each_other() -> None:
    owner = chains.worker()

    with paused(lambda: leases.prove_alive(owner)):
        assert leases.renew(owner).alive
    with paused(lambda: leases.renew(owner)), leases.fenced(owner):
        pass


@pytest.mark.server
@pytest.mark.parametrize("commits", [True, False])
def test_a_fence_that_meets_a_declaration_waits_for_a_moment_only(commits: bool) -> None:
    owner, judge = chains.worker("owner"), chains.worker("judge")
    chains.expire(owner)

    with paused(lambda: leases.declare_dead(by=judge)) as declaring:
        with pytest.raises(OperationalError) as refused, leases.fenced(owner):
            pass
        assert outages.is_conflict(refused.value)
        declaring.commit() if commits else declaring.rollback()

    if commits:
        with pytest.raises(leases.WorkerFenced), leases.fenced(owner):
            pass
    else:
        with leases.fenced(owner):
            pass


@pytest.mark.server
def test_a_fence_that_waited_for_the_declaration_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_TIMEOUT", 10.0)
    owner, judge = chains.worker("owner"), chains.worker("judge")
    chains.expire(owner)

    with paused(lambda: leases.declare_dead(by=judge)) as declaring:

        def prove() -> None:
            with leases.fenced(owner):
                pass

        fencing = Elsewhere(prove)
        fencing.wait_until_blocked()
        declaring.commit()

    with pytest.raises(leases.WorkerFenced):
        fencing.result()


@pytest.mark.server
def test_activities_do_not_lock_the_workers_row(session: Session) -> None:
    """Thousands of lockers a second of one row use up the database's multixacts."""
    owner = chains.worker()
    claimed = chains.owned(owner)
    success = outcomes.Claim(claimed.chain_id, "a", owner, 1)

    with paused(lambda: outcomes.record_success(success, chains.RESULT)):
        assert session.execute("SELECT id FROM durable_worker WHERE id = %s FOR UPDATE NOWAIT", owner) == [(owner,)]


# Limits of our transactions


@pytest.mark.server
def test_a_fenced_transaction_limits_itself_and_only_itself(settings: Any) -> None:
    settings.DURABLE = {"LEASE_SECONDS": 6.0}
    owner = chains.worker()
    before = shown()

    with leases.fenced(owner):
        assert shown() == LIMITED[connection.vendor]

    assert shown() == before


@pytest.mark.server
def test_the_limits_are_gone_after_a_rollback_too() -> None:
    owner = chains.worker()
    before = shown()

    with pytest.raises(ZeroDivisionError), leases.fenced(owner):
        raise ZeroDivisionError

    assert shown() == before


@pytest.mark.postgres
def test_the_fence_tells_the_transactions_id_and_the_databases_time() -> None:
    owner = chains.worker()

    with leases.fenced(owner) as fence, connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text, now() <= %s AND %s <= clock_timestamp()", [fence.time] * 2)
        assert cursor.fetchone() == (fence.transaction, True)


@pytest.mark.server
@pytest.mark.parametrize(
    "verb", ["heartbeat", "declare_dead", "recovery", "make_due", "push_back", "park_stuck", "overdue", "poll"]
)
def test_every_other_transaction_of_ours_that_locks_rows_is_ended_by_the_server_when_it_stops(verb: str) -> None:
    """A process that is stopped inside one would keep its locks for ever, and what is locked is never recovered."""
    owner, dead, judge = chains.worker("owner"), chains.worker("dead"), chains.worker("judge")
    claimed, asleep = chains.owned(dead), chains.sleeping()
    chains.held(dead, claimed, start_to_close=timedelta(seconds=-60))
    chains.start(definition="tests.gone")
    chains.send(asleep)
    if verb == "declare_dead":
        chains.expire(dead)
    elif verb in ("recovery", "park_stuck"):
        leases.retire(dead, stuck_run=claimed.run_id if verb == "park_stuck" else None)

    def poll() -> None:  # takes nothing, so nothing has fenced it before it wakes what has messages
        look.look(dataclasses.replace(wanted(owner), runs=0, activities=()))

    verbs = {
        "heartbeat": heartbeat.Heartbeat(lambda: owner, lambda: 0, lambda: None)._beat,
        "declare_dead": lambda: leases.declare_dead(by=judge),
        "recovery": lambda: recovery.release_chains([dead]),
        "make_due": lambda: dispatch.make_due([asleep]),
        "push_back": lambda: missing.push_back([chains.DEFINITION]),
        "park_stuck": lambda: recovery.park_stuck([dead]),
        "overdue": overdue.sweep,
        "poll": poll,
    }
    locking: list[str] = []

    def watch(execute: object, sql: str, *rest: object) -> object:
        done = execute(sql, *rest)  # type: ignore[operator]
        if "UPDATE" in sql or "SHARE" in sql:
            locking.append(str(shown()[2]) if connection.in_atomic_block else "autocommit")
        return done

    with connection.execute_wrapper(watch):
        verbs[verb]()

    assert locking, "the verb has locked nothing, so this test shows nothing"
    assert "0" not in locking


@pytest.mark.server
def test_the_server_ends_a_transaction_whose_process_has_stopped(settings: Any) -> None:
    settings.DURABLE = {"LEASE_SECONDS": 0.6}
    stopped, judge = chains.worker("stopped"), chains.worker("judge")
    claimed = chains.owned(stopped)
    fenced, taken_over = threading.Event(), threading.Event()

    def stop_between_fence_and_commit() -> None:
        with leases.fenced(stopped):
            dispatch.locked_for_end([claimed.chain_id])
            fenced.set()
            taken_over.wait(sessions.PATIENCE)
            chains.history_of(claimed.run_id)

    zombie = Elsewhere(stop_between_fence_and_commit)
    try:
        assert fenced.wait(sessions.PATIENCE)
        chains.expire(stopped)
        until(lambda: leases.declare_dead(by=judge) == [stopped])
        assert recovery.release_chains([stopped]) == [claimed.chain_id]
    finally:
        taken_over.set()

    with pytest.raises(DatabaseError):
        zombie.result()
    assert [one.chain_id for one in chains.claim(judge)] == [claimed.chain_id]


@pytest.mark.server
def test_no_lock_that_a_caller_holds_keeps_a_flush_for_long(session: Session) -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    session.execute(
        "INSERT INTO durable_historyevent (run_id, sequence, type, schema, time, data) "
        "VALUES (%s, 2, 'TimerStarted', 1, now(), '{}')",
        claimed.run_id,
    )

    with pytest.raises(OperationalError) as refused:
        flush.flush(owner, [chains.write(claimed)])

    assert outages.is_conflict(refused.value)


def test_messages_wait_in_peace_while_their_owner_is_fenced() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    chains.send(claimed.chain_id)
    chains.die(owner)

    with pytest.raises(leases.WorkerFenced):
        flush.flush(owner, [chains.write(claimed, consumed=chains.message_ids(claimed.chain_id))])

    assert len(inbox.read([claimed.chain_id])[claimed.chain_id]) == 1
