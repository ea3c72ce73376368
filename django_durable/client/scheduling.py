"""Schedules made by callers, declared by code, changed by staff; and what each of their ticks starts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import IntegrityError

from django_durable.client import handle, schedule_rows, starting, surroundings
from django_durable.client.schedule_handle import ScheduleHandle
from django_durable.definitions.registry import registry
from django_durable.definitions.schedule import DeclaredSchedule, Schedule
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.exceptions import ScheduleAlreadyExists
from django_durable.models import Schedule as Row
from django_durable.payloads import payload
from django_durable.store import database, schedules


def create_schedule(
    name: str,
    schedule: Schedule,
    definition: WorkflowDefinition[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> ScheduleHandle:
    """Start ``definition`` with these arguments whenever ``schedule`` says so, in the caller's transaction.

    Raises ``ScheduleAlreadyExists``, ``DefinitionError`` for a wrong name or option, ``TypeError`` or
    ``PayloadError`` for arguments that do not fit, ``ForeignTransaction`` inside a transaction on another database.
    """
    surroundings.check("create_schedule()")
    row = schedule_rows.new_row(name, schedule, definition, args, kwargs or {})
    try:
        with database.writing():
            row.save(using=database.alias(), force_insert=True)
    except IntegrityError as error:
        raise ScheduleAlreadyExists(
            f"There is a schedule {name!r} already. To change it: durable.get_schedule({name!r}).update(...)."
        ) from error
    schedule_rows.wake()
    return ScheduleHandle(name)


def get_schedule(name: str) -> ScheduleHandle:
    """The schedule of that name. Raises ``ScheduleNotFound``."""
    return ScheduleHandle(schedule_rows.get(name).name)


def start(row: Row, tick: datetime) -> handle.WorkflowHandle[Any]:
    """Start the run of one tick, in the transaction that has locked the schedule.

    The run's id is made of schedule and tick, so that no tick ever starts two.
    """
    definition = registry.workflow(row.definition)
    args, kwargs = definition.decode_input(payload.load(row.input))
    workflow_id = f"{row.name}/{tick:%Y-%m-%dT%H:%M:%S}{f'.{tick.microsecond:06d}' if tick.microsecond else ''}Z"
    configured = definition.using(workflow_id=workflow_id, on_reuse="reject", **schedule_rows.options_of(row))
    return starting.start_workflow(configured, args, kwargs, schedule=row.name)


def declare(declared: DeclaredSchedule) -> None:
    """Bring the row of a schedule that code declares up to date; what staff have paused stays paused."""
    definition = registry.workflow(declared.workflow)
    wanted = schedule_rows.new_row(declared.name, declared.schedule, definition, declared.args, declared.kwargs)
    wanted.declared = True
    with database.writing():
        row = schedules.locked(declared.name)
        if row is None:
            schedules.rows().bulk_create([wanted], ignore_conflicts=True)
        elif row.declared and schedule_rows.says(row) != schedule_rows.says(wanted):
            schedule_rows.follow(row, wanted)


def change(wanted: Row) -> None:
    """Make the schedule of that name what ``schedule_rows.new_row`` has made. Raises ``ScheduleNotFound``."""
    with database.writing():
        schedule_rows.follow(schedule_rows.locked(wanted.name), wanted)
    schedule_rows.wake()
