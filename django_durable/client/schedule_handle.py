"""What ``create_schedule`` and ``get_schedule`` return: a schedule to look at, pause, trigger, change, delete."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async

from django_durable.client import schedule_rows, surroundings
from django_durable.definitions.schedule import Overlap, Schedule
from django_durable.exceptions import DefinitionError
from django_durable.models import Schedule as Row
from django_durable.store import clock, database, schedules

BACKFILL_LIMIT = 10_000  # ticks in one call


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleStatus:
    """How a schedule is. Times are aware datetimes in UTC."""

    name: str
    schedule: Schedule
    workflow: str
    paused: bool
    note: str
    next_at: datetime | None
    """When it starts its next run; None while it is paused or has ended."""
    last_at: datetime | None
    """The latest tick that started a run."""
    last_run_id: UUID | None
    started: int
    skipped: int
    waiting: int
    """Ticks that wait for a run to end."""
    runs_left: int | None
    error: str
    """Why the latest tick could not start its run; empty if it could."""


class ScheduleHandle:
    """A schedule by its name. Cheap: nothing is read until a method asks."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<ScheduleHandle {self.name}>"

    def status(self) -> ScheduleStatus:
        """How it is. Raises ``ScheduleNotFound``, as every method does."""
        return status_of(schedule_rows.get(self.name))

    def trigger(self, overlap: Overlap = "allow_all") -> None:
        """Start a run now, beside those that the schedule says; ``overlap`` decides while another is open."""
        surroundings.check("trigger() of a schedule")
        with database.writing():
            row = schedule_rows.locked(self.name)
            self._want(row, [schedules.Tick(clock.read(), overlap)])

    def backfill(self, start: datetime, end: datetime, overlap: Overlap = "buffer_all") -> int:
        """Start a run for every tick from ``start`` to ``end``, the ends included, unless that tick had one.

        One after the other unless ``overlap`` says otherwise. Returns how many ticks that are; at most 10,000.
        """
        surroundings.check("backfill() of a schedule")
        for moment in (start, end):
            if moment.tzinfo is None:
                raise ValueError(f"A backfill needs datetimes with a time zone, not {moment!r}.")
        with database.writing():
            row = schedule_rows.locked(self.name)
            ticks = schedules.spec_of(row).ticks(start - timedelta(microseconds=1))
            wanted = [
                schedules.Tick(tick, overlap)
                for tick in itertools.islice(itertools.takewhile(lambda tick: tick <= end, ticks), BACKFILL_LIMIT + 1)
            ]
            if len(wanted) > BACKFILL_LIMIT:
                raise ValueError(f"Between {start} and {end} are over {BACKFILL_LIMIT:,} ticks: backfill in parts.")
            self._want(row, wanted)
        return len(wanted)

    def pause(self, note: str = "") -> None:
        """Start nothing more until ``resume``; ticks in between are not made up for. ``note`` is for people."""
        surroundings.check("pause() of a schedule")
        with database.writing():
            row = schedule_rows.locked(self.name)
            row.paused, row.note, row.next_at = True, note, None
            schedules.save(row)

    def resume(self, note: str = "") -> None:
        """Go on with the next tick from now."""
        surroundings.check("resume() of a schedule")
        with database.writing():
            row = schedule_rows.locked(self.name)
            row.paused, row.note = False, note
            schedule_rows.go_on(row, schedules.spec_of(row))
            schedules.save(row)
        schedule_rows.wake()

    def update(self, schedule: Schedule | None = None, **changes: Any) -> None:
        """Replace the schedule, or change fields of it: ``update(cron="0 4 * * *")``. Its runs go on.

        Raises ``DefinitionError`` for what could not work.
        """
        surroundings.check("update() of a schedule")
        with database.writing():
            row = schedule_rows.locked(self.name)
            before = schedules.spec_of(row)
            if "cron" in changes or "every" in changes or "calendar" in changes:
                changes = {"cron": None, "every": None, "calendar": None, **changes}
            spec = schedule_rows.resolved(replace(schedule or before, **_known(changes)))
            if spec.max_runs != before.max_runs:
                row.runs_left = spec.max_runs
            row.spec = schedules.dump_spec(spec)
            schedule_rows.go_on(row, spec)
            schedules.save(row)
        schedule_rows.wake()

    def upcoming(self, count: int = 10) -> list[datetime]:
        """The next ``count`` ticks from now, in UTC, whether the schedule is paused or not."""
        spec = schedules.spec_of(schedule_rows.get(self.name))
        return list(itertools.islice(spec.ticks(clock.read()), count))

    def delete(self) -> None:
        """Forget the schedule. Runs that it has started go on."""
        surroundings.check("delete() of a schedule")
        with database.writing():
            if not schedules.rows().filter(pk=self.name).delete()[0]:
                schedule_rows.unknown(self.name)

    astatus = sync_to_async(status)
    atrigger = sync_to_async(trigger)
    abackfill = sync_to_async(backfill)
    apause = sync_to_async(pause)
    aresume = sync_to_async(resume)
    aupdate = sync_to_async(update)
    aupcoming = sync_to_async(upcoming)
    adelete = sync_to_async(delete)

    def _want(self, row: Row, ticks: Iterable[schedules.Tick]) -> None:
        """Have a worker start these, even if the schedule is paused."""
        row.waiting = schedules.dump_ticks([*schedules.waiting_of(row), *ticks])
        row.next_at = clock.read()
        schedules.save(row)
        schedule_rows.wake()


def status_of(row: Row) -> ScheduleStatus:
    """A row as callers see it."""
    return ScheduleStatus(
        name=row.name,
        schedule=schedules.spec_of(row),
        workflow=row.definition,
        paused=row.paused,
        note=row.note,
        next_at=None if row.paused else row.next_at,
        last_at=row.last_tick_at,
        last_run_id=row.last_run_id,
        started=row.started,
        skipped=row.skipped,
        waiting=len(schedules.waiting_of(row)),
        runs_left=row.runs_left,
        error=row.error,
    )


def _known(changes: dict[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(Schedule)}
    for name in changes:
        if name not in names:
            raise DefinitionError(f"A schedule has no field {name!r}. Fields are: {', '.join(sorted(names))}.")
    return changes
