"""Runs and their events as lines of text, to be kept beside the code or carried to another machine.

One JSON object a line: a run, then its events in order, each exactly as it is stored; then the next run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from django_durable.exceptions import DurableError
from django_durable.history import codec
from django_durable.history.events import Recorded

FORMAT = 1


class RunLine(msgspec.Struct, frozen=True, kw_only=True, tag="run", tag_field="line", omit_defaults=True):
    """What is known of a run apart from its events."""

    format: int = FORMAT
    workflow_id: str
    run_id: UUID
    chain_id: UUID
    name: str
    version: str = ""
    fingerprint: str = ""
    queue: str = "default"
    attempt: int = 1
    status: str = ""
    continued_from: UUID | None = None
    parent_run_id: UUID | None = None
    parent_chain_id: UUID | None = None


class EventLine(msgspec.Struct, frozen=True, kw_only=True, tag="event", tag_field="line"):
    """One event as it stands in the table. ``data`` is its text, unread."""

    sequence: int
    type: str
    schema: int
    time: datetime
    data: str

    def read(self) -> Recorded:
        """The event itself. Raises ``UnreadableEvent``."""
        return codec.record(self.sequence, self.time, self.type, self.data, self.schema)


Line = RunLine | EventLine

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class Transcript(msgspec.Struct, frozen=True):
    """One run with all its events."""

    run: RunLine
    events: list[EventLine]

    def history(self) -> list[Recorded]:
        """The events, read. Raises ``UnreadableEvent``."""
        return [event.read() for event in self.events]


def write(line: Line) -> str:
    """``line`` as text, without its end."""
    return _encoder.encode(line).decode()


def read(lines: Iterable[str], *, name: str) -> Iterator[Transcript]:
    """The runs in ``lines``. Raises ``DurableError`` for what is none; ``name`` says there where the lines are from."""
    current: Transcript | None = None
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        line = _parse(text, place=f"{name}:{number}")
        if isinstance(line, RunLine):
            if current is not None:
                yield current
            current = Transcript(line, [])
        elif current is None:
            raise DurableError(f"{name}:{number}: an event without a run before it. Is this a part of an export only?")
        else:
            current.events.append(line)
    if current is not None:
        yield current


def _parse(text: str, *, place: str) -> Line:
    try:
        line = _decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise DurableError(f"{place} is no line that durable_export wrote: {error}") from error
    if isinstance(line, RunLine) and line.format > FORMAT:
        raise DurableError(f"{place} was written by a newer release of django_durable (format {line.format}).")
    return line


def without_tracebacks(event: EventLine) -> EventLine:
    """The same event without what only this machine's paths make of it: no replay looks at tracebacks."""
    fields = msgspec.json.decode(event.data)
    if not isinstance(fields, dict) or not isinstance(fields.get("failure"), dict):
        return event
    fields["failure"] = _untraced(fields["failure"])
    return msgspec.structs.replace(event, data=msgspec.json.encode(fields).decode())


def _untraced(failure: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in failure.items() if key != "traceback"}
    if isinstance(kept.get("cause"), dict):
        kept["cause"] = _untraced(kept["cause"])
    return kept
