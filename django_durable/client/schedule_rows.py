"""A schedule as its row: made from what callers say, found by its name, and set to its next tick."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any, NoReturn

import msgspec
from django.conf import settings as django_settings

from django_durable import transports
from django_durable.definitions import attributes
from django_durable.definitions.registry import registry
from django_durable.definitions.schedule import Schedule
from django_durable.definitions.subject import Subject
from django_durable.definitions.workflow import WorkflowDefinition, WorkflowOptions
from django_durable.exceptions import DefinitionError, ScheduleNotFound
from django_durable.models import Schedule as Row
from django_durable.payloads import payload
from django_durable.store import clock, database, schedules

NAME_LIMIT = 200  # characters: a tick's time is appended to make a workflow id


def get(name: str) -> Row:
    """The schedule of that name, as a plain read sees it. Raises ``ScheduleNotFound``."""
    return schedules.rows().filter(pk=name).first() or unknown(name)


def locked(name: str) -> Row:
    """The schedule of that name, locked for this transaction. Raises ``ScheduleNotFound``."""
    return schedules.locked(name) or unknown(name)


def unknown(name: str) -> NoReturn:
    raise ScheduleNotFound(
        f"There is no schedule {name!r}: deleted, or never made. durable.create_schedule({name!r}, ...) makes it."
    )


def new_row(
    name: str,
    schedule: Schedule,
    definition: WorkflowDefinition[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Row:
    """A schedule that is not saved yet. Raises what ``create_schedule`` does."""
    _check(name, schedule, definition)
    spec, now = resolved(schedule), clock.read()
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


def _check(name: Any, schedule: Any, definition: Any) -> None:
    if not isinstance(schedule, Schedule):
        raise TypeError(f"create_schedule() needs a Schedule as its second argument, not {schedule!r}.")
    if not isinstance(definition, WorkflowDefinition):
        raise TypeError(f"create_schedule() needs a workflow as its third argument, not {definition!r}.")
    if not isinstance(name, str) or not name or len(name) > NAME_LIMIT or not name.isprintable():
        raise DefinitionError(f"The name of a schedule has 1 to {NAME_LIMIT} printable characters: {name!r} does not.")


def follow(row: Row, wanted: Row) -> None:
    """Make a locked schedule what ``new_row`` has made, and write it."""
    row.spec, row.definition = wanted.spec, wanted.definition
    row.input, row.options = wanted.input, wanted.options
    row.runs_left = wanted.runs_left
    go_on(row, schedules.spec_of(wanted))
    schedules.save(row)


def says(row: Row) -> tuple[str, ...]:
    """What code decides about a schedule; the rest is decided by staff and by its ticks."""
    return row.spec, row.definition, row.input, row.options


def go_on(row: Row, spec: Schedule) -> None:
    """Wait for the next tick from now."""
    ended = row.runs_left is not None and row.runs_left <= 0
    row.tick_at = None if ended else spec.after(clock.read())
    schedules.plan(row, spec)
    if schedules.waiting_of(row):
        row.next_at = clock.read()


def resolved(schedule: Schedule) -> Schedule:
    """With the project's time zone where it has none of its own: that of today, whatever the settings become."""
    return schedule if schedule.time_zone is not None else replace(schedule, time_zone=django_settings.TIME_ZONE)


class StoredOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of a start that are kept with a schedule; every other belongs into the workflow's declaration."""

    queue: str | None = None
    priority: int | None = None
    partition_key: str | None = None
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


def options_of(row: Row) -> dict[str, Any]:
    """What ``using()`` takes for the runs of a schedule."""
    stored = msgspec.json.decode(row.options, type=StoredOptions) if row.options else StoredOptions()
    options = {name: value for name, value in msgspec.structs.asdict(stored).items() if value is not None}
    if stored.attributes is not None:
        options["attributes"] = attributes.decode_all(stored.attributes)
    return options


def wake() -> None:
    """After the commit, let workers look for what is due."""
    database.on_commit(transports.hint_schedules)
