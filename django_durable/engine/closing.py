"""How the end of a workflow's body becomes the command that ends its run."""

from __future__ import annotations

import asyncio
from typing import Any

from django_durable.engine import continuing, lines
from django_durable.engine.commands import CancelRun, Command, CompleteRun, ContinueAsNew, FailRun
from django_durable.engine.state import RunState
from django_durable.history import failures
from django_durable.payloads.payload import Payload


def closing_command(state: RunState) -> Command | None:
    """The command that ends the run if this drain has ended it."""
    verdict = state.recorder.verdict
    if verdict is not None:
        return _fail(state, verdict)
    stuck = state.continuing.stuck()
    if stuck is not None:
        return _fail(state, stuck)
    main = state.main
    if main is None or not main.done() or state.handlers.open:
        return None
    return _of_body(state, main)


def _of_body(state: RunState, main: asyncio.Task[Any]) -> Command:
    """The body has ended, and no handler is open."""
    handlers = state.handlers
    input = continuing.input_in(handlers.error) or state.continuing.input_of(main)
    if input is not None and not handlers.cancelled:
        return _continue(state, input)
    if handlers.error is not None:
        return _fail(state, handlers.error)
    if main.cancelled():
        return _cancelled(state)
    error = main.exception() if input is None else None
    if error is not None:
        return _fail(state, error)
    if handlers.cancelled:
        return _cancel(state)
    return _complete(state, main.result())


def _complete(state: RunState, result: Any) -> Command:
    try:
        payload = state.definition.encode_result(result)
    except Exception as error:
        return _fail(state, error)
    return CompleteRun(
        result=payload, unhandled=state.signals.unhandled(), where=lines.of_function(state.definition.function)
    )


def _continue(state: RunState, input: Payload) -> Command:
    return ContinueAsNew(
        input=input,
        signals=state.signals.carried(),
        callbacks=state.callbacks.carried(),
        where=lines.of_function(state.definition.function),
    )


def _cancelled(state: RunState) -> Command:
    if state.reason is None:  # the code has cancelled itself
        return _fail(state, state.handlers.end or asyncio.CancelledError())
    return _cancel(state)


def _cancel(state: RunState) -> Command:
    return CancelRun(
        reason=state.reason or "",
        unhandled=state.signals.unhandled(),
        where=lines.of_function(state.definition.function),
    )


def _fail(state: RunState, error: BaseException) -> Command:
    where = lines.of_exception(error) or lines.of_function(state.definition.function)
    lines.trim(error)
    return FailRun(
        failure=failures.from_exception(error),
        unhandled=state.signals.unhandled(),
        signals=state.signals.carried(),
        callbacks=state.callbacks.carried(),
        error=error,
        where=where,
    )
