"""Golden histories: what a run did once, kept beside the tests, is what it does for ever."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django_durable.client import replaying
from django_durable.client.handle import WorkflowHandle
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine import replay, words
from django_durable.history import events, transcript
from django_durable.history.events import Recorded
from django_durable.history.transcript import Transcript
from django_durable.testing import replays

VARIABLE = "DURABLE_GOLDEN"
WRITE = "write"


def assert_golden(
    handle: WorkflowHandle[Any],
    path: str | os.PathLike[str],
    *,
    definition: WorkflowDefinition[..., Any] | None = None,
) -> None:
    """Compare what a run did with the history in ``path``, and replay that history with today's code.

    The file is written if it is not there, or if the environment says ``DURABLE_GOLDEN=write``. What is compared:
    which events came, with names and durations; not times, ids and values, which the replay looks at. Raises
    ``AssertionError`` with the difference, or ``NonDeterminismError``.
    """
    path = Path(path)
    now = replays.transcript_of(handle.run_id)
    if not path.exists() or os.environ.get(VARIABLE) == WRITE:
        _write(path, now)
        return
    (kept,) = replays.read_file(path)
    before, after = list(_shapes(kept.history())), list(_shapes(now.history()))
    if before != after:
        difference = "\n".join(difflib.unified_diff(before, after, str(path), "this run", lineterm="", n=2))
        raise AssertionError(
            f"Workflow {now.run.name} does something else than in its golden history.\n{difference}\n"
            f"Runs that are under way may break. If they cannot, or there are none: {VARIABLE}={WRITE} writes it anew."
        )
    replaying.replay(kept, definition)


def _write(path: Path, run: Transcript) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines: list[transcript.Line] = [run.run, *map(transcript.without_tracebacks, run.events)]
    path.write_text("".join(f"{transcript.write(line)}\n" for line in lines), encoding="utf-8")


def _shapes(history: list[Recorded]) -> Iterator[str]:
    """A line for each event; commands of one input in alphabetical order, because their order means nothing."""
    known = {one.sequence: one.event for one in history}
    repeatable = [one for one in history if events.ended_from_outside(one.event) is None]
    for input, commands in replay.drains(repeatable):
        yield _shape(input.event, known)
        yield from sorted(f"  {_shape(command.event, known)}" for command in commands)
    for one in history[len(repeatable) :]:
        yield _shape(one.event, known)


def _shape(event: events.Event, known: dict[int, events.Event]) -> str:
    parts = [type(event).__name__]
    for field in event.__struct_fields__:
        value = getattr(event, field)
        if field in ("name", "timeout") and value:
            parts.append(str(value))
        elif field == "duration":
            parts.append(words.of_event(event))
        elif field in REFERENCES and value in known:
            parts.append(f"of {_shape(known[value], {})}")
    return " ".join(parts)


REFERENCES = ("activity", "timer", "child", "callback")
"""Fields that hold the sequence of the event that theirs belongs to."""
