"""Schedules as rows: found when due, locked while a tick is decided, and asked how their runs are doing."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import msgspec
from django.db.models import Exists, Max, OuterRef, QuerySet

from django_durable.definitions.schedule import Overlap
from django_durable.definitions.schedule import Schedule as Spec
from django_durable.models import Schedule
from django_durable.store import clock, database, locks, runs


class Tick(msgspec.Struct, frozen=True):
    """A time at which a run is wanted; ``overlap`` None: the schedule's own policy decides."""

    at: datetime
    overlap: Overlap | None = None


_ticks = msgspec.json.Decoder(list[Tick])
_specs = msgspec.json.Decoder(Spec)


def rows() -> QuerySet[Schedule]:
    return Schedule.objects.using(database.alias())


def spec_of(row: Schedule) -> Spec:
    return _specs.decode(row.spec)


def dump_spec(spec: Spec) -> str:
    return msgspec.json.encode(spec).decode()


def waiting_of(row: Schedule) -> list[Tick]:
    return _ticks.decode(row.waiting)


def dump_ticks(ticks: Collection[Tick]) -> str:
    return msgspec.json.encode(ticks).decode()


def locked(name: str) -> Schedule | None:
    """The schedule, locked for this transaction; callers wait for each other here, workers do not."""
    return locks.to_change(rows().filter(pk=name), skip_locked=False).first()


def due(definitions: Collection[str]) -> Schedule | None:
    """The longest due schedule of these workflows, locked for this transaction; one that is locked is being ticked."""
    found = rows().filter(next_at__lte=clock.now(), definition__in=definitions).order_by("next_at")
    return next(iter(locks.first(found, 1)), None)


def save(row: Schedule) -> None:
    row.save(using=database.alias())


def plan(row: Schedule, spec: Spec) -> None:
    """Set when a worker has to look at the schedule next, from its next tick alone."""
    row.next_at = None if row.tick_at is None or row.paused else row.tick_at + spec.lateness(row.name, row.tick_at)


def hurry_waiting() -> None:
    """Make due the schedules whose ticks wait for a run that has ended. While there are none, nothing is written."""
    mine = runs.rows().filter(schedule=OuterRef("name"), open_workflow_id__isnull=False)
    waiting = rows().filter(next_at__gt=clock.now()).exclude(waiting="[]").filter(~Exists(mine))
    if not waiting.exists():
        return
    with database.sweeping():
        found = list(locks.to_change(locks.exactly(waiting.order_by("pk"))).values_list("pk", flat=True))
        rows().filter(pk__in=found).update(next_at=clock.now())


def youngest(name: str) -> datetime | None:
    """When the latest of the open runs of a schedule was started; None: none is open."""
    mine = runs.rows().filter(schedule=name, open_workflow_id__isnull=False)
    latest: datetime | None = mine.aggregate(latest=Max("created_at"))["latest"]
    return latest


def open_runs(name: str) -> list[tuple[str, UUID]]:
    """Workflow id and run id of what a schedule has started and has not ended."""
    mine = runs.rows().filter(schedule=name, open_workflow_id__isnull=False)
    return list(mine.values_list("workflow_id", "pk"))
