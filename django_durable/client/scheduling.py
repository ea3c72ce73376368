"""Schedules as callers see them: made, looked at, paused, triggered, changed, deleted."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.db import IntegrityError

from django_durable import transports
from django_durable.client import handle, starting
from django_durable.definitions import attributes
from django_durable.definitions.registry import registry
from django_durable.definitions.schedule import DeclaredSchedule, Overlap, Schedule
from django_durable.definitions.subject import Subject
from django_durable.definitions.workflow import WorkflowDefinition, WorkflowOptions
from django_durable.exceptions import DefinitionError, ScheduleAlreadyExists, ScheduleNotFound
from django_durable.models import Schedule as Row
from django_durable.payloads import payload
from django_durable.store import clock, database, schedules

NAME_LIMIT = 200  # characters: a tick's time is appended to make a workflow id
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
        row = schedules.rows().filter(pk=self.name).first()
        if row is None:
            raise _unknown(self.name)
        return status_of(row)

    def trigger(self, overlap: Overlap = "allow_all") -> None:
        """Start a run now, beside those that the schedule says; ``overlap`` decides while another is open."""
        with database.writing():
            row = self._locked()
            self._want(row, [schedules.Tick(clock.read(), overlap)])

    def backfill(self, start: datetime, end: datetime, overlap: Overlap = "buffer_all") -> int:
        """Start a run for every tick from ``start`` to ``end``, the ends included, unless that tick had one.

        One after the other unless ``overlap`` says otherwise. Returns how many ticks that are; at most 10,000.
        """
        for moment in (start, end):
            if moment.tzinfo is None:
                raise ValueError(f"A backfill needs datetimes with a time zone, not {moment!r}.")
        with database.writing():
            row = self._locked()
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
        with database.writing():
            row = self._locked()
            row.paused, row.note, row.next_at = True, note, None
            schedules.save(row)

    def resume(self, note: str = "") -> None:
        """Go on with the next tick from now."""
        with database.writing():
            row = self._locked()
            row.paused, row.note = False, note
            _go_on(row, schedules.spec_of(row))
            schedules.save(row)
        _wake()

    def update(self, schedule: Schedule | None = None, **changes: Any) -> None:
        """Replace the schedule, or change fields of it: ``update(cron="0 4 * * *")``. Its runs go on.

        Raises ``DefinitionError`` for what could not work.
        """
        with database.writing():
            row = self._locked()
            before = schedules.spec_of(row)
            if "cron" in changes or "every" in changes or "calendar" in changes:
                changes = {"cron": None, "every": None, "calendar": None, **changes}
            spec = _resolved(replace(schedule or before, **_known(changes)))
            if spec.max_runs != before.max_runs:
                row.runs_left = spec.max_runs
            row.spec = schedules.dump_spec(spec)
            _go_on(row, spec)
            schedules.save(row)
        _wake()

    def upcoming(self, count: int = 10) -> list[datetime]:
        """The next ``count`` ticks from now, in UTC, whether the schedule is paused or not."""
        row = schedules.rows().filter(pk=self.name).first()
        if row is None:
            raise _unknown(self.name)
        return list(itertools.islice(schedules.spec_of(row).ticks(clock.read()), count))

    def delete(self) -> None:
        """Forget the schedule. Runs that it has started go on."""
        with database.writing():
            if not schedules.rows().filter(pk=self.name).delete()[0]:
                raise _unknown(self.name)

    astatus = sync_to_async(status)
    atrigger = sync_to_async(trigger)
    abackfill = sync_to_async(backfill)
    apause = sync_to_async(pause)
    aresume = sync_to_async(resume)
    aupdate = sync_to_async(update)
    aupcoming = sync_to_async(upcoming)
    adelete = sync_to_async(delete)

    def _locked(self) -> Row:
        row = schedules.locked(self.name)
        if row is None:
            raise _unknown(self.name)
        return row

    def _want(self, row: Row, ticks: Iterable[schedules.Tick]) -> None:
        """Have a worker start these, even if the schedule is paused."""
        row.waiting = schedules.dump_ticks([*schedules.waiting_of(row), *ticks])
        row.next_at = clock.read()
        schedules.save(row)
        _wake()


def create_schedule(
    name: str,
    schedule: Schedule,
    definition: WorkflowDefinition[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> ScheduleHandle:
    """Start ``definition`` with these arguments whenever ``schedule`` says so, in the caller's transaction.

    Raises ``ScheduleAlreadyExists``, ``DefinitionError`` for a wrong name or option, ``TypeError`` or
    ``PayloadError`` for arguments that do not fit.
    """
    row = new_row(name, schedule, definition, args, kwargs or {})
    try:
        with database.writing():
            row.save(using=database.alias(), force_insert=True)
    except IntegrityError as error:
        raise ScheduleAlreadyExists(
            f"There is a schedule {name!r} already. To change it: durable.get_schedule({name!r}).update(...)."
        ) from error
    _wake()
    return ScheduleHandle(name)


def get_schedule(name: str) -> ScheduleHandle:
    """The schedule of that name. Raises ``ScheduleNotFound``."""
    if not schedules.rows().filter(pk=name).exists():
        raise _unknown(name)
    return ScheduleHandle(name)


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


def start(row: Row, tick: datetime) -> handle.WorkflowHandle[Any]:
    """Start the run of one tick, in the transaction that has locked the schedule.

    The run's id is made of schedule and tick, so that no tick ever starts two.
    """
    definition = registry.workflow(row.definition)
    args, kwargs = definition.decode_input(payload.load(row.input))
    options = _load_options(row.options)
    workflow_id = f"{row.name}/{tick:%Y-%m-%dT%H:%M:%S}{f'.{tick.microsecond:06d}' if tick.microsecond else ''}Z"
    configured = definition.using(workflow_id=workflow_id, on_reuse="reject", **options)
    return starting.start_workflow(configured, args, kwargs, schedule=row.name)


def declare(declared: DeclaredSchedule) -> None:
    """Bring the row of a schedule that code declares up to date; what staff have paused stays paused."""
    definition = registry.workflow(declared.workflow)
    wanted = new_row(declared.name, declared.schedule, definition, declared.args, declared.kwargs)
    wanted.declared = True
    with database.writing():
        row = schedules.locked(declared.name)
        if row is None:
            schedules.rows().bulk_create([wanted], ignore_conflicts=True)
        elif row.declared and _said(row) != _said(wanted):
            _follow(row, wanted)


def change(wanted: Row) -> None:
    """Make the schedule of that name what ``new_row`` has made. Raises ``ScheduleNotFound``."""
    with database.writing():
        row = schedules.locked(wanted.name)
        if row is None:
            raise _unknown(wanted.name)
        _follow(row, wanted)
    _wake()


def _follow(row: Row, wanted: Row) -> None:
    row.spec, row.definition = wanted.spec, wanted.definition
    row.input, row.options = wanted.input, wanted.options
    row.runs_left = wanted.runs_left
    _go_on(row, schedules.spec_of(wanted))
    schedules.save(row)


def _said(row: Row) -> tuple[str, ...]:
    return row.spec, row.definition, row.input, row.options


def new_row(
    name: str,
    schedule: Schedule,
    definition: WorkflowDefinition[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Row:
    """A schedule that is not saved yet. Raises what ``create_schedule`` does."""
    _check(name, schedule, definition)
    spec, now = _resolved(schedule), clock.read()
    row = Row(
        name=name,
        spec=schedules.dump_spec(spec),
        definition=definition.name,
        input=payload.dump(definition.encode_input(args, kwargs)),
        options=_dump_options(definition),
        paused=spec.paused,
        note=spec.note,
        runs_left=spec.max_runs,
        tick_at=spec.after(now),
        created_at=now,
    )
    schedules.plan(row, spec)
    return row


def _go_on(row: Row, spec: Schedule) -> None:
    """Wait for the next tick from now."""
    ended = row.runs_left is not None and row.runs_left <= 0
    row.tick_at = None if ended else spec.after(clock.read())
    schedules.plan(row, spec)
    if schedules.waiting_of(row):
        row.next_at = clock.read()


def _resolved(schedule: Schedule) -> Schedule:
    """With the project's time zone where it has none of its own: that of today, whatever the settings become."""
    return schedule if schedule.time_zone is not None else replace(schedule, time_zone=django_settings.TIME_ZONE)


def _known(changes: dict[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(Schedule)}
    for name in changes:
        if name not in names:
            raise DefinitionError(f"A schedule has no field {name!r}. Fields are: {', '.join(sorted(names))}.")
    return changes


def _check(name: Any, schedule: Any, definition: Any) -> None:
    if not isinstance(schedule, Schedule):
        raise TypeError(f"create_schedule() needs a Schedule as its second argument, not {schedule!r}.")
    if not isinstance(definition, WorkflowDefinition):
        raise TypeError(f"create_schedule() needs a workflow as its third argument, not {definition!r}.")
    if not isinstance(name, str) or not name or len(name) > NAME_LIMIT or not name.isprintable():
        raise DefinitionError(f"The name of a schedule has 1 to {NAME_LIMIT} printable characters: {name!r} does not.")


class StoredOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of a start that are kept with a schedule; every other belongs into the workflow's declaration."""

    queue: str | None = None
    priority: int | None = None
    execution_timeout: timedelta | None = None
    run_timeout: timedelta | None = None
    label: str | None = None
    attributes: dict[str, Any] | None = None
    subject: Subject | None = None
    one_per_subject: bool | None = None


def _dump_options(definition: WorkflowDefinition[..., Any]) -> str:
    """What ``using()`` has changed of the declared options. Raises ``DefinitionError`` for what cannot be kept."""
    declared = registry.workflow(definition.name).options
    changed = {
        one.name: getattr(definition.options, one.name)
        for one in fields(WorkflowOptions)
        if getattr(definition.options, one.name) != getattr(declared, one.name)
    }
    kept = StoredOptions.__struct_fields__
    for name in changed:
        if name not in kept:
            raise DefinitionError(
                f"A schedule cannot keep the option {name!r} of {definition.name}. "
                f"It keeps {', '.join(kept)}; declare others in @durable.workflow(...)."
            )
    if "attributes" in changed:
        changed["attributes"] = attributes.encode_all(changed["attributes"])
    return msgspec.json.encode(StoredOptions(**changed)).decode() if changed else ""


def _load_options(text: str) -> dict[str, Any]:
    stored = msgspec.json.decode(text, type=StoredOptions) if text else StoredOptions()
    options = {name: value for name, value in msgspec.structs.asdict(stored).items() if value is not None}
    if stored.attributes is not None:
        options["attributes"] = attributes.decode_all(stored.attributes)
    return options


def _wake() -> None:
    database.on_commit(transports.hint_schedules)


def _unknown(name: str) -> ScheduleNotFound:
    return ScheduleNotFound(f"There is no schedule {name!r}.")
