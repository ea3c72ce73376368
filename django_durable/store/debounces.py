"""Debounced starts: the run that waits for its key gets the arguments of the latest start, and waits anew."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec
from django.db.models import QuerySet

from django_durable.history import events
from django_durable.models import DebouncedStart, Dispatch, HistoryEvent
from django_durable.payloads import payload
from django_durable.store import clock, database, dispatch, history, locks, runs, starts


class Waiting(NamedTuple):
    """A run that a start was put off with."""

    workflow_id: str
    run_id: UUID


def rows() -> QuerySet[DebouncedStart]:
    return DebouncedStart.objects.using(database.alias())


def lock(key: str) -> DebouncedStart:
    """The place of a key, locked for the caller's transaction: starts of one key wait for each other."""
    _make(key)
    return rows().select_for_update().get(pk=key)


def _make(key: str) -> None:
    if not database.is_mariadb():
        rows().bulk_create([DebouncedStart(key=key)], ignore_conflicts=True)
        return
    # There two that leave out what is there would both have a share lock on it, and then wait for each other.
    table, column = DebouncedStart._meta.db_table, database.connection().ops.quote_name("key")
    with database.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({column}) VALUES (%s) ON DUPLICATE KEY UPDATE {column} = VALUES({column})", [key]
        )


def push_back(place: DebouncedStart, new: starts.NewRun, *, wait: timedelta) -> Waiting | None:
    """Give the run that waits at this place the arguments of ``new``, and let it wait anew. None: there is none.

    Nobody has applied the first event of a run that was never claimed, so it may be written again by whoever has the
    run's dispatch row.
    """
    if place.run_id is None:
        return None
    waiting = dispatch.rows().filter(pk=place.run_id, run_id=place.run_id, hold=dispatch.DELAYED, epoch=0)
    chain = locks.to_change(waiting, skip_locked=False).first()
    if chain is None:
        return None
    begins = _begins(clock.read(), wait, place.latest_at)
    started = history.read([chain.run_id])[chain.run_id][0].event
    assert isinstance(started, events.RunStarted)
    started = msgspec.structs.replace(started, input=new.started.input, headers=new.started.headers)
    first = history.Row.of(chain.run_id, 1, begins, started)
    events_of_it = HistoryEvent.objects.using(database.alias()).filter(run_id=chain.run_id, sequence=1)
    events_of_it.update(data=first.data, time=begins)
    run = runs.rows().get(pk=chain.run_id)
    run.input, run.headers = payload.dump(new.started.input), new.headers
    run.save(using=database.alias(), update_fields=["input", "headers"])
    _put_off(chain, begins, execution_deadline=run.execution_deadline, run_timeout=run.run_timeout)
    return Waiting(run.workflow_id, run.pk)


def _begins(now: datetime, wait: timedelta, latest: datetime | None) -> datetime:
    return now + wait if latest is None else max(now, min(now + wait, latest))


def _put_off(
    chain: Dispatch, begins: datetime, *, execution_deadline: datetime | None, run_timeout: timedelta | None
) -> None:
    limits = [execution_deadline, begins + run_timeout if run_timeout is not None else None]
    chain.deadline = min((limit for limit in limits if limit is not None), default=None)
    chain.wakeup_at = min(begins, execution_deadline) if execution_deadline is not None else begins
    chain.save(using=database.alias(), update_fields=["wakeup_at", "deadline"])


def take(place: DebouncedStart, run_id: UUID, *, max_wait: timedelta | None) -> None:
    """From now on this run waits at the place, for ``max_wait`` at most."""
    place.run_id = run_id
    place.latest_at = clock.read() + max_wait if max_wait is not None else None
    place.save(using=database.alias())


def leave(run_ids: Collection[UUID]) -> None:
    """These runs have begun. A place that a start is about to take is its own."""
    if run_ids:
        left = locks.exclusively(rows().filter(run_id__in=run_ids)).values_list("pk", flat=True)
        rows().filter(pk__in=list(left)).delete()
