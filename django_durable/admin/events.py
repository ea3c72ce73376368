"""Events of a history as rows of a table. Every kind of event is shown by its fields, so none needs code here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.utils.safestring import SafeString

from django_durable.admin import excerpts, failures, times
from django_durable.admin.excerpts import Excerpt
from django_durable.admin.failures import ShownFailure
from django_durable.history import codec
from django_durable.history.events import Event
from django_durable.history.failures import Failure
from django_durable.payloads.payload import Payload
from django_durable.store.history import Stored

REFERENCES = frozenset({"activity", "child", "request", "timer"})
"""Fields that hold the sequence of the event which this one answers."""

NAMED = frozenset({"label", "scope"})
"""Fields that people have named things by; they have places of their own."""

SUBJECTS: dict[str, Callable[[Any], str]] = {
    "name": str,
    "duration": lambda microseconds: times.duration(timedelta(microseconds=microseconds)),
}
"""Fields that say what an event is about, and how they read."""


@dataclass(slots=True, kw_only=True)
class EventRow:
    """One event. ``refers_to``: the sequence of the event that it answers; ``values``: its payloads by field.

    ``scope``: in which it, or the event that it answers, was asked for.
    """

    sequence: int
    type: str
    is_input: bool
    time: SafeString
    offset: str
    subject: str = ""
    label: str = ""
    scope: str = ""
    refers_to: int | None = None
    values: list[tuple[str, Excerpt]]
    facts: list[tuple[str, str]]
    failure: list[ShownFailure]


def row(stored: Stored, *, begin: datetime) -> EventRow:
    """The row of a stored event; ``begin`` is when the run was created. What cannot be read is shown as it is."""
    event = _read(stored)
    shown = EventRow(
        sequence=stored.sequence,
        type=stored.type,
        is_input=event is not None and event.is_input,
        time=times.moment(stored.time, milliseconds=True),
        offset=f"+{times.duration(stored.time - begin)}",
        values=[],
        facts=[],
        failure=[],
    )
    if event is None:
        shown.values.append(("as stored", excerpts.of_text(stored.data, size=stored.size)))
        return shown
    for field in msgspec.structs.fields(event):
        _add(shown, field, getattr(event, field.name))
    return shown


def share_scopes(rows: Sequence[EventRow]) -> None:
    """Put the answers to what was asked for in a scope into that scope too, where both are among ``rows``."""
    scopes = {one.sequence: one.scope for one in rows if one.scope}
    for one in rows:
        if not one.scope and one.refers_to is not None:
            one.scope = scopes.get(one.refers_to, "")


def _read(stored: Stored) -> Event | None:
    if stored.size > len(stored.data):
        return None
    try:
        return codec.decode(stored.type, stored.data, stored.schema)
    except (codec.UnreadableEvent, msgspec.MsgspecError, RecursionError):
        return None


def _add(shown: EventRow, field: msgspec.structs.FieldInfo, value: Any) -> None:
    """Put a field where the table has a place for it; what has its default value is left out."""
    if value == field.default:
        return
    if isinstance(value, Payload):
        shown.values.append((field.name, excerpts.of_payload(value)))
    elif isinstance(value, Failure):
        shown.failure = failures.chain(value)
    elif field.name in NAMED:
        setattr(shown, field.name, value)
    elif field.name in REFERENCES:
        shown.refers_to = value
    elif field.name in SUBJECTS:
        shown.subject = SUBJECTS[field.name](value)
    else:
        shown.facts.append((field.name, ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)))
