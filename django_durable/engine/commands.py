"""What a workflow's code asked for while one input was applied: imperative twins of the recorded events.

A command is compared with history by *content*: kind, name, arguments, durations. Options are not compared, so a
deploy may change them under running workflows.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from django_durable.definitions.activity import ActivityDefinition
from django_durable.definitions.polling import Polling
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.history import events
from django_durable.history.failures import Failure
from django_durable.payloads.payload import Payload


class Command(msgspec.Struct, kw_only=True):
    """The root of all commands. ``sequence`` is set when its drain ends; ``where`` only while replaying."""

    sequence: int = 0
    where: str = ""
    scope: str = ""

    def matches(self, event: events.Event) -> bool:
        """Whether ``event`` is the record of this very command."""
        raise NotImplementedError

    def event(self) -> events.Event:
        """The event that records this command."""
        raise NotImplementedError


class ScheduleActivity(Command):
    definition: ActivityDefinition[Any, Any]  # carries the options, which are the code's of today
    input: Payload
    key: str = ""
    polling: Polling[Any, Any] | None = None

    def matches(self, event: events.Event) -> bool:
        return (
            isinstance(event, events.ActivityScheduled)
            and event.name == self.definition.name
            and event.input == self.input
        )

    def event(self, *, worker: int | None = None, epoch: int | None = None) -> events.ActivityScheduled:
        return events.ActivityScheduled(
            name=self.definition.name,
            input=self.input,
            key=self.key,
            worker=worker,
            epoch=epoch,
            queue=self.definition.options.queue,
            label=self.definition.options.label,
            scope=self.scope,
        )


class CancelActivity(Command):
    activity: int
    key: str = ""
    atomic: bool = False
    wait: bool = False

    def matches(self, event: events.Event) -> bool:
        return isinstance(event, events.ActivityCancelRequested) and event.activity == self.activity

    def event(self) -> events.ActivityCancelRequested:
        return events.ActivityCancelRequested(activity=self.activity, wait=self.wait)


class ScheduleChild(Command):
    definition: WorkflowDefinition[..., Any]  # carries the options, which are the code's of today
    input: Payload
    workflow_id: str
    run_id: UUID
    explicit: bool
    key: str = ""

    def matches(self, event: events.Event) -> bool:
        return (
            isinstance(event, events.ChildScheduled)
            and event.name == self.definition.name
            and event.input == self.input
        )

    def event(self) -> events.ChildScheduled:
        return events.ChildScheduled(
            name=self.definition.name,
            input=self.input,
            key=self.key,
            workflow_id=self.workflow_id,
            run_id=self.run_id,
            explicit=self.explicit,
            parent_close=self.definition.options.parent_close,
            label=self.definition.options.label,
            scope=self.scope,
        )


class CancelChild(Command):
    child: int
    chain_id: UUID
    reason: str = ""

    def matches(self, event: events.Event) -> bool:
        return isinstance(event, events.ChildCancelRequested) and event.child == self.child

    def event(self) -> events.ChildCancelRequested:
        return events.ChildCancelRequested(child=self.child, reason=self.reason)


class SignalExternal(Command):
    workflow_id: str
    name: str
    payload: Payload
    chain_id: UUID | None = None  # of a child; else whichever has the workflow id
    key: str = ""

    def matches(self, event: events.Event) -> bool:
        return (
            isinstance(event, events.ExternalSignalRequested)
            and event.workflow_id == self.workflow_id
            and event.name == self.name
            and event.payload == self.payload
        )

    def event(self) -> events.ExternalSignalRequested:
        return events.ExternalSignalRequested(
            workflow_id=self.workflow_id, name=self.name, payload=self.payload, key=self.key, scope=self.scope
        )


class CancelExternal(Command):
    workflow_id: str
    reason: str = ""
    key: str = ""

    def matches(self, event: events.Event) -> bool:
        return isinstance(event, events.ExternalCancelRequested) and event.workflow_id == self.workflow_id

    def event(self) -> events.ExternalCancelRequested:
        return events.ExternalCancelRequested(
            workflow_id=self.workflow_id, key=self.key, reason=self.reason, scope=self.scope
        )


class OpenCallback(Command):
    """Ask for a promise that somebody outside fulfils. Its time limits are the code's of today, and not compared."""

    name: str
    key: str
    token: str
    url: str
    timeout: timedelta | None = None
    heartbeat: timedelta | None = None
    chain_key: str = ""
    carried: bool = False  # from the run before, with the place where its answer is waited for

    def matches(self, event: events.Event) -> bool:
        return (
            isinstance(event, events.CallbackOpened) and event.name == self.name and event.chain_key == self.chain_key
        )

    def event(self) -> events.CallbackOpened:
        return events.CallbackOpened(
            name=self.name,
            key=self.key,
            token=self.token,
            url=self.url,
            chain_key=self.chain_key,
            scope=self.scope,
        )


class StartTimer(Command):
    duration: int  # microseconds
    label: str = ""

    def matches(self, event: events.Event) -> bool:
        return isinstance(event, events.TimerStarted) and event.duration == self.duration

    def event(self) -> events.TimerStarted:
        return events.TimerStarted(duration=self.duration, label=self.label, scope=self.scope)


class CancelTimer(Command):
    timer: int

    def matches(self, event: events.Event) -> bool:
        return isinstance(event, events.TimerCancelled) and event.timer == self.timer

    def event(self) -> events.TimerCancelled:
        return events.TimerCancelled(timer=self.timer)


class RecordSideEffect(Command):
    value: Payload

    def matches(self, event: events.Event) -> bool:
        return isinstance(event, events.SideEffectRecorded)

    def event(self) -> events.SideEffectRecorded:
        return events.SideEffectRecorded(value=self.value, scope=self.scope)


class RejectSignal(Command):
    name: str
    message: str

    def matches(self, event: events.Event) -> bool:
        return isinstance(event, events.SignalRejected) and event.name == self.name

    def event(self) -> events.SignalRejected:
        return events.SignalRejected(name=self.name, message=self.message)


class CompleteUpdate(Command):
    """The reply: a result or a failure. Which of the two is compared, what it says is not."""

    id: str
    name: str
    result: Payload | None = None
    failure: Failure | None = None

    def matches(self, event: events.Event) -> bool:
        if not isinstance(event, events.UpdateCompleted) or event.id != self.id:
            return False
        return (event.failure is None) == (self.failure is None)

    def event(self) -> events.UpdateCompleted:
        return events.UpdateCompleted(id=self.id, result=self.result, failure=self.failure)


class MarkPatch(Command):
    """Asked for by live code only: a replay looks the marker up."""

    id: str

    def matches(self, event: events.Event) -> bool:
        return isinstance(event, events.PatchMarked) and event.id == self.id

    def event(self) -> events.PatchMarked:
        return events.PatchMarked(id=self.id)


class CompleteRun(Command):
    result: Payload
    unhandled: tuple[str, ...] = ()

    def matches(self, event: events.Event) -> bool:
        return isinstance(event, events.RunCompleted)

    def event(self) -> events.RunCompleted:
        return events.RunCompleted(result=self.result, unhandled=self.unhandled)


class FailRun(Command):
    failure: Failure
    unhandled: tuple[str, ...] = ()
    signals: tuple[events.CarriedSignal, ...] = ()  # left to the next run, if it is tried again
    callbacks: tuple[events.CarriedCallback, ...] = ()  # likewise
    error: BaseException | None = None  # for the policy that decides on that

    def matches(self, event: events.Event) -> bool:
        return isinstance(event, events.RunFailed)

    def event(self, *, run_id: UUID | None = None) -> events.RunFailed:
        unhandled = self.unhandled if run_id is None else ()
        return events.RunFailed(failure=self.failure, unhandled=unhandled, run_id=run_id)


class ContinueAsNew(Command):
    input: Payload
    signals: tuple[events.CarriedSignal, ...] = ()  # left to the next run
    callbacks: tuple[events.CarriedCallback, ...] = ()

    def matches(self, event: events.Event) -> bool:
        return isinstance(event, events.RunContinuedAsNew) and event.input == self.input

    def event(self, *, run_id: UUID | None = None) -> events.RunContinuedAsNew:
        return events.RunContinuedAsNew(input=self.input, run_id=run_id)


class CancelRun(Command):
    reason: str = ""
    unhandled: tuple[str, ...] = ()

    def matches(self, event: events.Event) -> bool:
        return isinstance(event, events.RunCancelled)

    def event(self) -> events.RunCancelled:
        return events.RunCancelled(reason=self.reason, unhandled=self.unhandled)


CLOSING = (CompleteRun, FailRun, CancelRun, ContinueAsNew)
