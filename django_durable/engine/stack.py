"""Where the code of a run waits, and what for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import FrameType
from typing import Any

from django_durable.engine import lines
from django_durable.engine.state import RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class StackEntry:
    """One task of a run: the innermost line of the user's code that it is in, and what it waits for there.

    ``line`` is 0, ``file`` and ``function`` are empty if there is none: for example in a call of ``ctx.activity()``
    that was handed to ``asyncio.gather()`` and whose line is not known.
    """

    task: str
    file: str
    line: int
    function: str
    waits_for: str


def of(state: RunState) -> tuple[StackEntry, ...]:
    """An entry for each task that has not ended, the workflow's body first."""
    return tuple(_entry(state, task) for _, task in sorted(state.loop.tasks.items()))


def places(state: RunState) -> list[str]:
    """``file:line`` of the places in user code where the tasks wait, each once, the body's first."""
    found = (lines.of_coroutine(task.get_coro()) for task in state.loop.tasks.values())
    return [place for place in dict.fromkeys(found) if place]


def _entry(state: RunState, task: asyncio.Task[Any]) -> StackEntry:
    frame, inner = lines.frames_of(task.get_coro())
    future = getattr(task, "_fut_waiter", None)
    file, line, function = _place(frame, state.activities.place(future))
    return StackEntry(
        task=task.get_name(), file=file, line=line, function=function, waits_for=_wait(state, future, inner)
    )


def _place(frame: FrameType | None, called: str) -> tuple[str, int, str]:
    if frame is not None:
        return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname
    file, _, line = called.rpartition(":")
    return file, int(line or 0), ""


def _wait(state: RunState, future: Any, inner: FrameType | None) -> str:
    if future is None:
        return "nothing"
    parts = (
        state.activities,
        state.callbacks,
        state.loop.timers,
        state.signals,
        state.handlers,
        state.children,
        state.externals,
        state.conditions,
    )
    for part in parts:
        words = part.describe(future)
        if words is not None:
            return words
    if isinstance(future, asyncio.Task):
        return f"task {future.get_name()}"
    children = getattr(future, "_children", None)  # of asyncio.gather()
    if children:
        return "tasks " + ", ".join(child.get_name() for child in children if isinstance(child, asyncio.Task))
    return f"asyncio {inner.f_code.co_qualname}" if inner is not None else "a future"
