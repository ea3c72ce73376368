"""Running functions of a workflow that may only look: handlers of queries, and validators of updates."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django_durable.engine.handlers import Handler
from django_durable.engine.state import RunState
from django_durable.exceptions import QueryFailed, UnsupportedInWorkflow, WorkflowSuspended
from django_durable.history import events, failures
from django_durable.history.failures import Failure
from django_durable.payloads.payload import Payload
from django_durable.payloads.signature import Arguments


def answer(state: RunState, name: str, input: Payload) -> Any:
    """What the query's handler returns, as its annotation says. Raises ``QueryFailed`` if there is no such handler.

    Whatever the handler raises is raised here.
    """
    handler = state.handlers.queries.get(name)
    if handler is None:
        known = ", ".join(repr(one) for one in state.handlers.queries) or "none"
        raise QueryFailed(f"The workflow has no handler for query {name!r} now. It has: {known}.")
    value = _call(state, handler, handler.arguments(input))
    return handler.signature.decode_result(handler.signature.encode_result(value))


def refusal(state: RunState, update: events.UpdateAccepted) -> Failure | None:
    """Why an update cannot be accepted; None if it can."""
    handler = state.handlers.updates.get(update.name)
    if handler is None:
        known = ", ".join(repr(one) for one in state.handlers.updates) or "none"
        return _refused(f"The workflow has no handler for update {update.name!r} now. It has: {known}.")
    if not state.handlers.takes_update(update):
        return _refused(f"The workflow is ending, so update {update.name!r} cannot be carried out any more.")
    try:
        handler.arguments(update.input)
        if handler.validator is not None:
            _call(state, handler.validator, _for_validator(handler.validator, update.input))
    except WorkflowSuspended:
        raise
    except BaseException as error:
        return failures.from_exception(error)
    return None


def _refused(message: str) -> Failure:
    return Failure(type="UpdateRejected", message=message)


def _for_validator(validator: Handler, input: Payload) -> Arguments:
    """Those of the update; none for one that only asks whether anything may come now."""
    return validator.arguments(input) if validator.signature.parameters else ((), {})


def _call(state: RunState, handler: Handler, arguments: Arguments) -> Any:
    args, kwargs = arguments
    results: list[Any] = []
    with _only_looking(state):
        state.loop.enter(lambda: results.append(handler.context.copy().run(_at_once, handler, args, kwargs)))
    return results[0]


@contextmanager
def _only_looking(state: RunState) -> Iterator[None]:
    """Nothing that is asked for in this block is done. Raises ``UnsupportedInWorkflow`` if something was scheduled."""
    recorder, loop = state.recorder, state.loop
    recorder.reading = True
    ready = loop.set_aside()
    try:
        yield
    finally:
        recorder.reading = False
        if loop.put_back(ready):
            recorder.tainted = True
    if recorder.tainted:
        raise UnsupportedInWorkflow(
            "The handler of a query and the validator of an update can only look at the workflow, but this one made "
            "a task, or set an event or a future that others wait for."
        )


def _at_once(handler: Handler, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    coroutine = handler.call(args, kwargs)
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    except asyncio.CancelledError as error:
        raise UnsupportedInWorkflow(f"{handler.signature.name} has cancelled itself.") from error
    coroutine.close()
    raise UnsupportedInWorkflow(
        f"{handler.signature.name} waits for something. It can only look at what the workflow has, and answer at once."
    )
