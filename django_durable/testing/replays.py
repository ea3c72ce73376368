"""``assert_replays``: does today's code repeat what a run did?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from django_durable.client import replaying
from django_durable.client.handle import WorkflowHandle
from django_durable.client.reading import History, HistoryEntry
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.exceptions import DurableError, WorkflowNotFound
from django_durable.history import codec, events, transcript
from django_durable.history.events import Recorded
from django_durable.history.transcript import EventLine, RunLine, Transcript
from django_durable.payloads import codec as payloads
from django_durable.payloads.payload import Payload
from django_durable.store import runs, transcripts

NOBODY = UUID(int=0)

Source = WorkflowHandle[Any] | str | os.PathLike[str] | Iterable[HistoryEntry | Recorded]


def assert_replays(history: Source, definition: WorkflowDefinition[..., Any] | None = None) -> None:
    """Run today's code over ``history``: a handle, what its ``history()`` gave, or the path of an exported file.

    ``definition`` is the code; by default what is registered under the run's own name. Raises ``NonDeterminismError``,
    which names both sides of the first difference and the line of the code.
    """
    for one in _transcripts(history, definition):
        replaying.replay(one, definition)


def transcript_of(run_id: UUID) -> Transcript:
    """A run of this database. Raises ``WorkflowNotFound``."""
    found = next(transcripts.of(runs.rows().filter(pk=run_id)), None)
    if found is None:
        raise WorkflowNotFound(f"There is no run {run_id}.")
    return found


def read_file(path: str | os.PathLike[str]) -> list[Transcript]:
    """The runs in an exported file. Raises ``DurableError`` if there are none."""
    with Path(path).open(encoding="utf-8") as lines:
        found = list(transcript.read(lines, name=str(path)))
    if not found:
        raise DurableError(f"{path} holds no run.")
    return found


def _transcripts(history: Source, definition: WorkflowDefinition[..., Any] | None) -> Sequence[Transcript]:
    if isinstance(history, WorkflowHandle | History):
        return [transcript_of(history.run_id)]
    if isinstance(history, str | os.PathLike):
        return read_file(history)
    if definition is None:
        raise TypeError(
            "assert_replays() cannot tell whose events these are. Give it the handle, what handle.history() gave, or "
            "the definition too: assert_replays(events, definition)."
        )
    name = definition.name
    run = RunLine(workflow_id=name, run_id=NOBODY, chain_id=NOBODY, name=name, version=definition.version)
    return [Transcript(run, [_line_of(one) for one in history])]


def _line_of(one: HistoryEntry | Recorded) -> EventLine:
    event = one.event if isinstance(one, Recorded) else _event_of(one)
    return EventLine(
        sequence=one.sequence,
        type=type(event).__name__,
        schema=codec.SCHEMA,
        time=one.time,
        data=codec.encode(event).decode(),
    )


def _event_of(entry: HistoryEntry) -> events.Event:
    """What ``history()`` shows, stored again: payloads are shown as their values."""
    kind = events.TYPES[entry.type]
    kinds = {field.name: field.type for field in msgspec.structs.fields(kind)}
    stored: dict[str, Any] = {}
    for name, value in entry.data.items():
        if Payload in (kinds[name], *getattr(kinds[name], "__args__", ())) and value is not None:
            stored[name] = payloads.encode(value, what=f"{entry.type}.{name}")
        else:
            stored[name] = msgspec.convert(msgspec.to_builtins(value), kinds[name])
    return kind(**stored)
