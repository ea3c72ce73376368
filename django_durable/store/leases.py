"""Workers and their leases: one row per worker process, however many runs it has.

An expired lease only permits others to declare the worker dead; what stops it is the declaration.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import DatabaseError, InterfaceError

from django_durable import conf
from django_durable.models import ActivityTask, Dispatch, Worker, WorkerFence
from django_durable.store import clock, database, fences, locks, outages, tasks


class WorkerFenced(Exception):
    """This worker has been declared dead: it must write nothing more under its id."""


class Fence(NamedTuple):
    """Proof that the worker was alive in this transaction. ``transaction``: its id, to ask for its fate later."""

    transaction: str
    time: datetime


def has_no_table() -> bool:
    """Whether the database answers, and the tables have not been made yet."""
    outages.discard()
    try:
        return Worker._meta.db_table not in database.connection().introspection.table_names()
    except (DatabaseError, InterfaceError):
        return False


def led_by(worker: int, names: Sequence[str]) -> list[str]:
    """Those of these workflows that this worker takes care of: of all live workers that have them it is the first.

    It takes care of one that nobody has if it is the first of all.
    """
    live = Worker.objects.using(database.alias()).filter(dead=False, stopping=False).order_by("pk")
    have = {pk: _names_in(definitions) for pk, definitions in live.values_list("pk", "definitions")}
    first = {name: next((pk for pk, known in have.items() if name in known), next(iter(have), None)) for name in names}
    return [name for name in names if first[name] == worker]


def _names_in(definitions: str) -> set[str]:
    return {line.partition("\t")[0] for line in definitions.split("\n")}


def register(name: str, *, queues: Sequence[str], definitions: Sequence[str], concurrency: int, release: str) -> int:
    """Add a worker and return its id, which is never used again."""
    now = clock.now()
    row = Worker(
        name=name[:255],
        queues="\n".join(queues),
        definitions="\n".join(definitions),
        concurrency=concurrency,
        release=release,
        started_at=now,
        heartbeat_at=now,
        expires_at=clock.plus(now, _lease()),
    )
    with database.writing():
        row.save(using=database.alias(), force_insert=True)
        fences.put_up(row.pk)
    return row.pk


class Beat(NamedTuple):
    """What a heartbeat tells: whether the worker is alive, and whether there is something to sweep."""

    alive: bool
    something_to_sweep: bool


def renew(worker: int) -> Beat:
    """Heartbeat.

    A late heartbeat counts as long as nobody declared the worker dead. One statement of its own, so that a process
    that is stopped never keeps its worker row locked: nobody could declare it dead.
    """
    now, params = clock.sql()
    if not database.is_postgres():
        return _renew_in_two(worker, now, params)
    overdue = tasks.OVERDUE_GRACE
    found = database.select(
        f"UPDATE {Worker._meta.db_table} SET heartbeat_at = {now}, expires_at = {now} + %s WHERE id = %s AND NOT dead "
        f"RETURNING ({_SWEEP.format(now='STATEMENT_TIMESTAMP()', overdue='STATEMENT_TIMESTAMP() - %s')})",
        [*params, *params, _lease(), worker, overdue, overdue],
    )
    return Beat(bool(found), bool(found and found[0][0]))


def _renew_in_two(worker: int, now: str, params: list[Any]) -> Beat:
    alive = Worker.objects.using(database.alias()).filter(pk=worker, dead=False)
    renewed = alive.update(heartbeat_at=clock.now(), expires_at=clock.plus(clock.now(), _lease()))
    overdue = clock.adapt(clock.read() - tasks.OVERDUE_GRACE)
    sweep = database.select(
        f"SELECT 1 WHERE {_SWEEP.format(now=now, overdue='%s')}", [*params, overdue, *params, overdue]
    )
    return Beat(bool(renewed), bool(sweep))


_SWEEP = (
    f"EXISTS (SELECT 1 FROM {Worker._meta.db_table} WHERE NOT dead AND expires_at < {{now}}) "
    f"OR EXISTS (SELECT 1 FROM {Worker._meta.db_table} w WHERE dead AND "
    f"(EXISTS (SELECT 1 FROM {Dispatch._meta.db_table} WHERE owner = w.id) "
    f"OR EXISTS (SELECT 1 FROM {ActivityTask._meta.db_table} WHERE worker = w.id))) "
    f"OR EXISTS (SELECT 1 FROM {ActivityTask._meta.db_table} WHERE worker IS NOT NULL AND deadline < {{overdue}}) "
    f"OR EXISTS (SELECT 1 FROM {ActivityTask._meta.db_table} WHERE worker IS NULL AND start_before < {{now}}) "
    f"OR EXISTS (SELECT 1 FROM {ActivityTask._meta.db_table} WHERE expires_at < {{overdue}})"
)
"""Whether somebody's lease has expired, a dead worker still has something, or an attempt is overdue."""


@contextmanager
def fenced(worker: int, *, flushed: bool = True) -> Iterator[Fence]:
    """One transaction of the engine: it commits only if the worker is not dead, and never waits for long.

    Raises ``WorkerFenced``. The server ends the transaction if this process is stopped inside it.
    """
    with database.limiting(), database.writing(durable=True):
        yield prove_alive(worker, flushed=flushed)


def prove_alive(worker: int, *, flushed: bool = True) -> Fence:
    """Lock the worker's row against a declaration of its death, in the current transaction. Raises ``WorkerFenced``.

    ``flushed=False``: the commit need not wait for the disk. Right for claims and releases of chains: if a crash of
    the server loses one, nothing was acted upon, because the first flush that follows waits for everything before it.
    """
    table = Worker._meta.db_table
    now, params = clock.sql()
    with database.cursor() as cursor:
        if database.is_postgres():
            cursor.execute(
                f"SELECT pg_current_xact_id()::text, {now}, "
                "CASE WHEN %s THEN '' ELSE set_config('synchronous_commit', 'off', true) END, "
                f"{database.LIMITS} FROM {table} WHERE id = %s AND NOT dead FOR KEY SHARE",
                [*params, flushed, *database.limits(), worker],
            )
        elif fences.are_used():
            cursor.execute(
                f"SELECT '', {now} FROM {WorkerFence._meta.db_table} WHERE worker = %s AND NOT dead "
                + locks.share_lock(),
                [*params, worker],
            )
        else:
            cursor.execute(f"SELECT '', {now} FROM {table} WHERE id = %s AND NOT dead", [*params, worker])
        row = cursor.fetchone()
    if row is None:
        raise WorkerFenced(f"Worker {worker} has been declared dead.")
    return Fence(row[0], clock.as_moment(row[1]))


def declare_dead(*, by: int) -> list[int]:
    """Declare workers dead whose lease has expired; returns their ids.

    The caller must itself have had one full lease of unbroken heartbeats. Expiry is looked at again under the lock,
    by the clock of that moment.
    """
    if not anybody_expired(by=by):
        return []
    workers = Worker.objects.using(database.alias()).filter(dead=False).exclude(pk=by)
    with database.sweeping():
        locked = fences.locked(workers.filter(expires_at__lt=clock.now()))
        expired = list(
            workers.filter(pk__in=locked, expires_at__lt=clock.now(after_locks=True)).values_list("pk", flat=True)
        )
        workers.filter(pk__in=expired).update(dead=True)
        fences.close(expired)
    return expired


def anybody_expired(*, by: int) -> bool:
    """Whether the lease of another worker has run out that nobody has declared dead yet."""
    workers = Worker.objects.using(database.alias()).filter(dead=False).exclude(pk=by)
    return workers.filter(expires_at__lt=clock.now()).exists()


def retire(worker: int, *, stuck_run: UUID | None = None, stuck_where: str = "") -> None:
    """A worker's own last word: whatever it still has may be taken at once."""
    with database.limiting(), database.writing():
        Worker.objects.using(database.alias()).filter(pk=worker).update(
            dead=True, stuck_run=stuck_run, stuck_where=stuck_where
        )
        fences.close([worker])


def forget(worker: int) -> None:
    """Delete a worker that has nothing any more."""
    Worker.objects.using(database.alias()).filter(pk=worker).delete()
    fences.take_down([worker])


def anybody_lives() -> bool:
    """Whether some worker holds its lease."""
    return Worker.objects.using(database.alias()).filter(dead=False, expires_at__gt=clock.now()).exists()


def holders() -> list[Worker]:
    """The workers that hold their lease, the latest first."""
    return list(Worker.objects.using(database.alias()).filter(dead=False, expires_at__gt=clock.now()).order_by("-pk"))


def announce_stopping(worker: int) -> None:
    Worker.objects.using(database.alias()).filter(pk=worker).update(stopping=True)


def living(workers: Collection[int]) -> set[int]:
    """Which of these workers nobody has declared dead. A row that is gone was dead for long."""
    return set(Worker.objects.using(database.alias()).filter(pk__in=workers, dead=False).values_list("pk", flat=True))


def known_dead(workers: Collection[int]) -> set[int]:
    """Which of these have been declared dead, as far as their rows are still there."""
    return set(Worker.objects.using(database.alias()).filter(pk__in=workers, dead=True).values_list("pk", flat=True))


def registered_definitions() -> set[str]:
    """The names of all workflow definitions that some live worker has."""
    rows = Worker.objects.using(database.alias()).filter(dead=False).values_list("definitions", flat=True)
    return {name for definitions in rows for name in definitions.split("\n") if name}


def _lease() -> timedelta:
    return timedelta(seconds=conf.current().LEASE_SECONDS)
