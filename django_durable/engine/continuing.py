"""Continuing as new: the code has asked to begin again with a fresh history."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine import lines
from django_durable.engine.loop import DeterministicLoop
from django_durable.engine.recorder import Recorder
from django_durable.exceptions import UnsupportedInWorkflow, WorkflowContinuedAsNew
from django_durable.payloads.payload import Payload

EVENTS_WARNED = 10_000
EVENTS_LIMIT = 50_000
"""Events that a run may have. Beyond, it fails: it could neither be replayed nor looked at in a reasonable time."""


class HistoryTooLong(UnsupportedInWorkflow):
    """The run has as many events as a run may have."""


class Continuing:
    """The tasks that have asked to continue as new, with the new input."""

    __slots__ = ("_definition", "_inputs", "_loop", "_recorder")

    def __init__(self, definition: WorkflowDefinition[..., Any], loop: DeterministicLoop, recorder: Recorder) -> None:
        self._inputs: dict[asyncio.Task[Any], Payload] = {}
        self._definition = definition
        self._loop = loop
        self._recorder = recorder

    def ask(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        """End the task that runs, and with it the run. Raises ``TypeError`` or ``PayloadError`` for wrong arguments."""
        self._recorder.check()
        input = self._definition.encode_input(args, kwargs)
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._inputs[task] = input
        raise WorkflowContinuedAsNew(input)

    def was_asked_by(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether ``task`` has asked, and is on its way out."""
        return task in self._inputs

    def stuck(self) -> UnsupportedInWorkflow | None:
        """Why the run fails, if code has awaited something on its way out."""
        for task in self._inputs:
            if not task.done():
                where = lines.of_coroutine(task.get_coro())
                return UnsupportedInWorkflow(
                    f"The workflow awaits something at {where or 'an unknown place'} after ctx.continue_as_new(). What "
                    "must be finished first belongs before that call, not into a finally or except that it unwinds."
                )
        return None

    def input_of(self, main: asyncio.Task[Any]) -> Payload | None:
        """With what the run continues, if that is how its body has ended."""
        if main.cancelled():
            return None
        error = main.exception()
        if error is None:  # the code has swallowed what unwound it
            return self._inputs.get(main)
        return input_in(error)

    def clear(self) -> None:
        self._inputs.clear()


def input_in(error: BaseException | None) -> Payload | None:
    """With what the run continues, if ``error`` says just that; task groups wrap it."""
    while isinstance(error, BaseExceptionGroup):
        _, others = error.split(WorkflowContinuedAsNew)
        error = None if others else error.exceptions[0]
    return error.input if isinstance(error, WorkflowContinuedAsNew) else None


def check_length(sequence: int) -> HistoryTooLong | None:
    """The error that a run fails with instead of handling the input ``sequence``, if its history is too long."""
    if sequence < EVENTS_LIMIT:
        return None
    return HistoryTooLong(
        f"The history of this run has {EVENTS_LIMIT:,} events, and a run may not have more. Let the workflow continue "
        "as new in good time: if ctx.info.should_continue_as_new: ctx.continue_as_new(...)."
    )
