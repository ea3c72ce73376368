"""Inputs: what each does to the run that it reaches, and whether it still means something to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_durable.engine.context import Context
from django_durable.engine.state import RunState
from django_durable.history import events
from django_durable.history.events import Event


def apply(state: RunState, event: Event) -> None:
    """Tell the run's parts what has happened. The code that this makes ready is not run yet."""
    _APPLY[type(event)](state, event)


def accepts(state: RunState, event: Event) -> bool:
    """Whether ``event`` can be applied: what it answers is there, and waits for an answer."""
    fits = _ACCEPTS.get(type(event))
    return fits is not None and fits(state, event)


def _start(state: RunState, event: events.RunStarted) -> None:
    try:
        args, kwargs = state.definition.decode_input(event.input)
        body = state.definition.function(Context(state), *args, **kwargs)
    except Exception as error:  # the input does not fit the function's signature
        state.recorder.verdict = error
        return
    for carried in event.signals:
        state.signals.receive(carried.name, carried.payload)
    state.callbacks.take_over(event.callbacks)
    state.main = state.loop.create_main(state.compensations.guard(body), name=state.info.name)
    state.handlers.watch(state.main)


def _cancel(state: RunState, event: events.CancelRequested) -> None:
    main = state.main
    if main is None or (state.reason is not None and main.cancelling()):
        return  # a second request while the first is being handled changes nothing
    state.reason = event.reason
    if main.done():
        state.handlers.cancel(event.reason)
    else:
        state.loop.call_soon(main.cancel, event.reason or None)


def _complete(state: RunState, event: events.ActivityCompleted) -> None:
    (state.activities if event.activity in state.activities.pending else state.callbacks).complete(event)


def _fail(state: RunState, event: events.ActivityFailed) -> None:
    (state.activities if event.activity in state.activities.pending else state.callbacks).fail(event)


def _is_awaited(state: RunState, event: events.ActivityCompleted | events.ActivityFailed) -> bool:
    """Whether an activity or a callback still has no outcome."""
    return event.activity in state.activities.pending or event.activity in state.callbacks.pending


def _has_child(state: RunState, event: events.ChildStartFailed | events.ChildCompleted | events.ChildFailed) -> bool:
    return event.child in state.children.pending


def _is_unanswered(state: RunState, event: events.ExternalDelivered | events.ExternalFailed) -> bool:
    return event.request in state.externals.pending


def _always(state: RunState, event: Event) -> bool:
    return True


_APPLY: dict[type[Event], Callable[[RunState, Any], None]] = {
    events.RunStarted: _start,
    events.ActivityCompleted: _complete,
    events.ActivityFailed: _fail,
    events.TimerFired: lambda state, event: state.loop.fire(event.timer),
    events.ChildStarted: lambda state, event: state.children.begun(event),
    events.ChildStartFailed: lambda state, event: state.children.not_begun(event),
    events.ChildCompleted: lambda state, event: state.children.complete(event),
    events.ChildFailed: lambda state, event: state.children.fail(event),
    events.ExternalDelivered: lambda state, event: state.externals.delivered(event),
    events.ExternalFailed: lambda state, event: state.externals.failed(event),
    events.SignalReceived: lambda state, event: state.signals.receive(event.name, event.payload),
    events.UpdateAccepted: lambda state, event: state.handlers.accept(event),
    events.CancelRequested: _cancel,
}

_ACCEPTS: dict[type[Event], Callable[[RunState, Any], bool]] = {
    events.ActivityCompleted: _is_awaited,
    events.ActivityFailed: _is_awaited,
    events.TimerFired: lambda state, event: event.timer in state.loop.timers,
    events.ChildStarted: lambda state, event: event.child in state.children.unstarted,
    events.ChildStartFailed: _has_child,
    events.ChildCompleted: _has_child,
    events.ChildFailed: _has_child,
    events.ExternalDelivered: _is_unanswered,
    events.ExternalFailed: _is_unanswered,
    events.SignalReceived: _always,
    events.UpdateAccepted: lambda state, event: state.handlers.takes_update(event),
    events.CancelRequested: _always,
}
