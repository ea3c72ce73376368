"""Events and commands in words, for messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_durable.engine.commands import Command, FailRun
from django_durable.history import events
from django_durable.payloads.packing import JSON
from django_durable.payloads.payload import NULL, Payload

_ARGUMENTS_LIMIT = 300  # characters of a payload that a message shows


def of_event(event: events.Event) -> str:
    """What ``event`` says, on one line."""
    describe = _EVENTS.get(type(event))
    return describe(event) if describe else type(event).__name__


def of_command(command: Command) -> str:
    """What ``command`` asks for, on one line, in the words of its event."""
    if isinstance(command, FailRun) and command.failure.message:
        return f"the run to fail with {command.failure.type}: {_short(command.failure.message)}"
    return of_event(command.event())


def _payload(payload: Payload) -> str:
    if payload.format != JSON:
        return f"<{payload.size} bytes, {payload.format}>"
    return _short(bytes(payload.data).decode("utf-8", "replace"))


def _short(text: str) -> str:
    return text if len(text) <= _ARGUMENTS_LIMIT else text[:_ARGUMENTS_LIMIT] + " …"


def _reply(event: events.UpdateCompleted) -> str:
    if event.failure is not None:
        return f"{event.failure.type}: {_short(event.failure.message)}"
    return _payload(event.result or NULL)


def _seconds(microseconds: int) -> str:
    return f"{microseconds / 1_000_000:g} s"


_EVENTS: dict[type[events.Event], Callable[[Any], str]] = {
    events.ActivityScheduled: lambda event: f"activity {event.name} with {_payload(event.input)}",
    events.ActivityCancelRequested: lambda event: f"the cancellation of activity {event.activity}",
    events.ActivityCompleted: lambda event: f"the result of activity {event.activity}",
    events.ActivityFailed: lambda event: f"the failure of activity {event.activity}",
    events.ChildScheduled: lambda event: f"child workflow {event.name} with {_payload(event.input)}",
    events.ChildStarted: lambda event: f"the start of child {event.child}",
    events.ChildStartFailed: lambda event: f"that child {event.child} could not be started",
    events.ChildCompleted: lambda event: f"the result of child {event.child}",
    events.ChildFailed: lambda event: f"the end of child {event.child} as {event.status}",
    events.ChildCancelRequested: lambda event: f"the cancellation of child {event.child}",
    events.ExternalSignalRequested: (
        lambda event: f"signal {event.name} with {_payload(event.payload)} to workflow {event.workflow_id}"
    ),
    events.ExternalCancelRequested: lambda event: f"the cancellation of workflow {event.workflow_id}",
    events.ExternalDelivered: lambda event: f"the delivery of message {event.request}",
    events.ExternalFailed: lambda event: f"that message {event.request} could not be delivered",
    events.CallbackOpened: lambda event: f"callback {event.name}",
    events.TimerStarted: lambda event: f"a timer of {_seconds(event.duration)}",
    events.TimerCancelled: lambda event: f"the cancellation of timer {event.timer}",
    events.TimerFired: lambda event: f"the end of timer {event.timer}",
    events.SideEffectRecorded: lambda event: f"a side effect with the value {_payload(event.value)}",
    events.SignalReceived: lambda event: f"signal {event.name}",
    events.SignalRejected: lambda event: f"the rejection of signal {event.name}",
    events.UpdateAccepted: lambda event: f"update {event.name} with {_payload(event.input)}",
    events.UpdateCompleted: lambda event: f"the reply to update {event.id}: {_reply(event)}",
    events.PatchMarked: lambda event: f"the marker of patch {event.id}",
    events.CancelRequested: lambda event: "a request to cancel",
    events.RunPaused: lambda event: "the pause of the run",
    events.RunReset: lambda event: "the reset",
    events.RunResumed: lambda event: "the end of the run's pause",
    events.RunStarted: lambda event: f"the start with {_payload(event.input)}",
    events.RunCompleted: lambda event: f"the run to complete with {_payload(event.result)}",
    events.RunFailed: lambda event: f"the run to fail with {event.failure.type}: {_short(event.failure.message)}",
    events.RunCancelled: lambda event: "the run to end as cancelled",
    events.RunContinuedAsNew: lambda event: f"the run to continue as new with {_payload(event.input)}",
    events.RunTerminated: lambda event: "the termination of the run",
    events.RunTimedOut: lambda event: f"the end of the run's {event.timeout}",
}
