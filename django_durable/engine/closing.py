"""How the end of a workflow's body becomes the command that ends its run."""

from __future__ import annotations

import asyncio
from typing import Any

from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine import lines
from django_durable.engine.commands import CancelRun, Command, CompleteRun, FailRun
from django_durable.engine.state import RunState
from django_durable.history import failures


def closing_command(
    definition: WorkflowDefinition[..., Any], state: RunState, main: asyncio.Task[Any] | None, reason: str | None
) -> Command | None:
    """The command that ends the run if this drain has ended it; ``reason`` is that of a request to cancel."""
    verdict = state.recorder.verdict
    if verdict is not None:
        return _fail(definition, state, verdict)
    if main is None or not main.done():
        return None
    if main.cancelled():
        return _cancelled(definition, state, main, reason)
    error = main.exception()
    return _complete(definition, state, main.result()) if error is None else _fail(definition, state, error)


def _complete(definition: WorkflowDefinition[..., Any], state: RunState, result: Any) -> Command:
    try:
        payload = definition.encode_result(result)
    except Exception as error:
        return _fail(definition, state, error)
    return CompleteRun(
        result=payload, unhandled=state.signals.unhandled(), where=lines.of_function(definition.function)
    )


def _cancelled(
    definition: WorkflowDefinition[..., Any], state: RunState, main: asyncio.Task[Any], reason: str | None
) -> Command:
    if reason is None:  # the code has cancelled itself
        return _fail(definition, state, _cancellation_of(main))
    return CancelRun(reason=reason, unhandled=state.signals.unhandled(), where=lines.of_function(definition.function))


def _cancellation_of(main: asyncio.Task[Any]) -> BaseException:
    try:
        main.result()
    except asyncio.CancelledError as error:
        return error
    raise AssertionError("a cancelled task has no result")


def _fail(definition: WorkflowDefinition[..., Any], state: RunState, error: BaseException) -> Command:
    where = lines.of_exception(error) or lines.of_function(definition.function)
    lines.trim(error)
    return FailRun(failure=failures.from_exception(error), unhandled=state.signals.unhandled(), where=where)
