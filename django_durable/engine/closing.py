"""How the end of a workflow's body becomes the command that ends its run."""

from __future__ import annotations

import asyncio
from typing import Any

from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine import continuing, lines
from django_durable.engine.commands import CancelRun, Command, CompleteRun, ContinueAsNew, FailRun
from django_durable.engine.state import RunState
from django_durable.history import failures
from django_durable.payloads.payload import Payload


def closing_command(
    definition: WorkflowDefinition[..., Any], state: RunState, main: asyncio.Task[Any] | None, reason: str | None
) -> Command | None:
    """The command that ends the run if this drain has ended it; ``reason`` is that of a request to cancel."""
    verdict = state.recorder.verdict
    if verdict is not None:
        return _fail(definition, state, verdict)
    stuck = state.continuing.stuck()
    if stuck is not None:
        return _fail(definition, state, stuck)
    handlers = state.handlers
    if main is None or not main.done() or handlers.open:
        return None
    return _of_body(definition, state, main, reason)


def _of_body(
    definition: WorkflowDefinition[..., Any], state: RunState, main: asyncio.Task[Any], reason: str | None
) -> Command:
    """The body has ended, and no handler is open."""
    handlers = state.handlers
    input = continuing.input_in(handlers.error) or state.continuing.input_of(main)
    if input is not None and not handlers.cancelled:
        return _continue(definition, state, input)
    if handlers.error is not None:
        return _fail(definition, state, handlers.error)
    if main.cancelled():
        return _cancelled(definition, state, reason)
    error = main.exception() if input is None else None
    if error is not None:
        return _fail(definition, state, error)
    if handlers.cancelled:
        return _cancel(definition, state, reason or "")
    return _complete(definition, state, main.result())


def _complete(definition: WorkflowDefinition[..., Any], state: RunState, result: Any) -> Command:
    try:
        payload = definition.encode_result(result)
    except Exception as error:
        return _fail(definition, state, error)
    return CompleteRun(
        result=payload, unhandled=state.signals.unhandled(), where=lines.of_function(definition.function)
    )


def _continue(definition: WorkflowDefinition[..., Any], state: RunState, input: Payload) -> Command:
    return ContinueAsNew(input=input, signals=state.signals.carried(), where=lines.of_function(definition.function))


def _cancelled(definition: WorkflowDefinition[..., Any], state: RunState, reason: str | None) -> Command:
    if reason is None:  # the code has cancelled itself
        return _fail(definition, state, state.handlers.end or asyncio.CancelledError())
    return _cancel(definition, state, reason)


def _cancel(definition: WorkflowDefinition[..., Any], state: RunState, reason: str) -> Command:
    return CancelRun(reason=reason, unhandled=state.signals.unhandled(), where=lines.of_function(definition.function))


def _fail(definition: WorkflowDefinition[..., Any], state: RunState, error: BaseException) -> Command:
    where = lines.of_exception(error) or lines.of_function(definition.function)
    lines.trim(error)
    return FailRun(
        failure=failures.from_exception(error),
        unhandled=state.signals.unhandled(),
        signals=state.signals.carried(),
        error=error,
        where=where,
    )
