"""What reaches a run as inputs of its engine: messages of its inbox, and outcomes of its activities."""

from __future__ import annotations

from typing import ClassVar

from django_durable.history import events, messages
from django_durable.payloads import payload
from django_durable.store import inbox
from django_durable.worker import offspring
from django_durable.worker.ownership import Input, OwnedRun


class UnreadableMessage(events.Event, frozen=True):
    """In the place of an input that another release, or a process with other keys, would know. It is never written."""

    is_input: ClassVar[bool] = True
    error: str


def of_message(run: OwnedRun, waiting: inbox.Waiting) -> Input | None:
    """An inbox message as an input of this run. None: it is not for the run, but says that it is to rest."""
    message = waiting.message
    match message:
        case messages.Signal():
            return Input(events.SignalReceived(name=message.name, payload=message.payload), waiting.id)
        case messages.Update():
            accepted = events.UpdateAccepted(id=message.id, name=message.name, input=message.input)
            return Input(accepted, waiting.id)
        case messages.Cancel():
            return Input(events.CancelRequested(reason=message.reason), waiting.id)
        case messages.ActivityResult():
            event = outcome(run.sequence_of(message.key) or 0, message)
            return Input(event, waiting.id, key=message.key, looks=message.looks)
        case messages.ChildStart() | messages.ChildResult():
            return Input(offspring.event_of(run.child_of(message.key) or 0, message), waiting.id)
        case messages.ExternalResult():
            return Input(offspring.answer_of(run.request_of(message.key) or 0, message), waiting.id)
        case messages.Terminate():
            return Input(events.RunTerminated(reason=message.reason), waiting.id)
        case messages.Pause():
            return None
        case messages.Unreadable():
            return Input(UnreadableMessage(error=message.error), waiting.id)


def outcome(activity: int, message: messages.ActivityResult) -> events.Event:
    """The outcome of an activity as the event of its run; ``activity`` 0: nobody waits for it any more."""
    if message.failure is None:
        return events.ActivityCompleted(
            activity=activity, result=message.result or payload.NULL, attempts=message.attempts
        )
    return events.ActivityFailed(
        activity=activity,
        failure=message.failure,
        attempts=message.attempts,
        timeout=message.timeout,
        interrupted=message.interrupted,
    )
