"""What happened to a run: one frozen value per kind of event.

Events are either *inputs* (something reached the run) or *recorded commands* (what the workflow's code asked for
while one input was applied). A history is a sequence of inputs, each followed by the commands that it caused.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from django_durable.history.failures import Failure
from django_durable.payloads.payload import Payload


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The root of all events. ``is_input`` tells inputs from recorded commands."""

    is_input: ClassVar[bool] = False


# Inputs


class CarriedSignal(msgspec.Struct, frozen=True, kw_only=True):
    """A signal that the run before has left to this one."""

    name: str
    payload: Payload


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """The run that has started another one as its child, and the key under which it waits for it."""

    workflow_id: str
    run_id: UUID
    chain_id: UUID
    key: str


class ActivityCompleted(Event, frozen=True):
    is_input: ClassVar[bool] = True
    activity: int  # sequence of its ActivityScheduled
    result: Payload
    attempts: int = 1


class ActivityFailed(Event, frozen=True):
    is_input: ClassVar[bool] = True
    activity: int
    failure: Failure
    attempts: int = 1
    timeout: str | None = None
    interrupted: bool = False


class CarriedCallback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A callback of the chain that the run before has left to this one: open, or with an outcome nobody has awaited.

    ``chain_key`` is the code's name for it, ``key`` addresses the answer. Durations in microseconds.
    """

    chain_key: str
    name: str
    key: str
    token: str
    url: str = ""
    timeout: int | None = None
    heartbeat: int | None = None
    completed: ActivityCompleted | None = None
    failed: ActivityFailed | None = None


class RunStarted(Event, frozen=True):
    is_input: ClassVar[bool] = True
    input: Payload
    seed: int
    python: str  # minor version that the run started on, "3.12": asyncio's own behaviour is part of a history
    attempt: int = 1  # counts the tries of what continues as new or was started: retries of a failed run
    continued_from: UUID | None = None  # the run before this one in its chain
    signals: tuple[CarriedSignal, ...] = ()
    callbacks: tuple[CarriedCallback, ...] = ()
    parent: Parent | None = None
    attributes: dict[str, Any] | None = None  # search attributes in their JSON form, given or carried over
    headers: Payload | None = None  # what surrounded the start, for its activities: language, actor and the like
    one_per_subject: bool = False  # while the chain is open no other run of that kind may be about its subject
    singleton_key: str | None = None  # while the chain is open no other run of its workflow may have this key


class TimerFired(Event, frozen=True):
    is_input: ClassVar[bool] = True
    timer: int  # sequence of its TimerStarted


class SignalReceived(Event, frozen=True):
    is_input: ClassVar[bool] = True
    name: str
    payload: Payload


class UpdateAccepted(Event, frozen=True):
    is_input: ClassVar[bool] = True
    id: str  # of the update, the caller's or one made for it
    name: str
    input: Payload


class CancelRequested(Event, frozen=True):
    is_input: ClassVar[bool] = True
    reason: str = ""


class ChildStarted(Event, frozen=True):
    """A child whose workflow id was given could be started."""

    is_input: ClassVar[bool] = True
    child: int  # sequence of its ChildScheduled


class ChildStartFailed(Event, frozen=True):
    is_input: ClassVar[bool] = True
    child: int
    failure: Failure


class ChildCompleted(Event, frozen=True):
    is_input: ClassVar[bool] = True
    child: int
    result: Payload


class ChildFailed(Event, frozen=True):
    is_input: ClassVar[bool] = True
    child: int
    failure: Failure
    status: str  # how the last run of its chain ended


class ExternalDelivered(Event, frozen=True):
    is_input: ClassVar[bool] = True
    request: int  # sequence of its ExternalSignalRequested or ExternalCancelRequested


class ExternalFailed(Event, frozen=True):
    is_input: ClassVar[bool] = True
    request: int
    failure: Failure


class RunPaused(Event, frozen=True):
    """Held from here on. The code does not learn of it: nothing is run for this input, nor for ``RunResumed``."""

    is_input: ClassVar[bool] = True
    reason: str = ""


class RunResumed(Event, frozen=True):
    is_input: ClassVar[bool] = True


class RunReset(Event, frozen=True):
    """What is before it was copied from another run. The code does not learn of it but by ``ctx.info.run_id``.

    Keys and ids that are made from here on are the run's own. ``again``: sequences of activities and callbacks that
    are begun once more; ``interrupted``: of those that somebody was executing at the time.
    """

    is_input: ClassVar[bool] = True
    from_run: UUID
    run_id: UUID
    reason: str = ""
    again: tuple[int, ...] = ()
    interrupted: tuple[int, ...] = ()


# Recorded commands


class Scoped(Event, frozen=True, kw_only=True):
    """What was asked for in a scope of the code: names from the outermost to the innermost, with slashes between."""

    scope: str = ""


class ActivityScheduled(Scoped, frozen=True):
    name: str
    input: Payload
    key: str  # idempotency key, made once; addresses outcome, task and reply
    worker: int | None = None  # who runs it without a task row, under which epoch; None: it has a task row
    epoch: int | None = None
    queue: str | None = None
    label: str = ""  # the caller's words for people


class ActivityCancelRequested(Event, frozen=True):
    activity: int
    wait: bool = False  # for the activity's own end, which is its outcome


class ChildScheduled(Scoped, frozen=True):
    name: str
    input: Payload
    key: str  # made once; the child's reply is addressed by it
    workflow_id: str
    run_id: UUID  # of its first run
    explicit: bool = False  # the id was given, so that starting it may fail
    parent_close: str = "terminate"
    label: str = ""


class ChildCancelRequested(Event, frozen=True):
    child: int
    reason: str = ""


class ExternalSignalRequested(Scoped, frozen=True):
    workflow_id: str
    name: str
    payload: Payload
    key: str


class ExternalCancelRequested(Scoped, frozen=True):
    workflow_id: str
    key: str
    reason: str = ""


class CallbackOpened(Scoped, frozen=True):
    """A promise that somebody outside fulfils; its outcome is an ActivityCompleted or ActivityFailed."""

    name: str
    key: str
    token: str = ""  # kept, because the keys that sign tokens change
    url: str = ""
    chain_key: str = ""  # the code's own, of one that the whole chain has


class TimerStarted(Scoped, frozen=True):
    duration: int  # microseconds
    label: str = ""


class TimerCancelled(Event, frozen=True):
    timer: int


class SideEffectRecorded(Scoped, frozen=True):
    value: Payload


class SignalRejected(Event, frozen=True):
    """A signal's payload does not fit its handler, so that the handler was not called."""

    name: str
    message: str = ""


class UpdateCompleted(Event, frozen=True):
    """The reply to an update: either ``result`` or ``failure``."""

    id: str
    result: Payload | None = None
    failure: Failure | None = None


class PatchMarked(Event, frozen=True):
    """The run has taken the new branch of a patch. Code that no longer asks for the patch skips it."""

    id: str


class RunCompleted(Event, frozen=True):
    result: Payload
    unhandled: tuple[str, ...] = ()  # names of signals that nobody waited for


class RunFailed(Event, frozen=True):
    failure: Failure
    unhandled: tuple[str, ...] = ()
    run_id: UUID | None = None  # of the next run, if it is tried again


class RunCancelled(Event, frozen=True):
    reason: str = ""
    unhandled: tuple[str, ...] = ()
    began: bool = True  # False: cancelled from outside before any of its code ran, so it is never replayed


class RunContinuedAsNew(Event, frozen=True):
    """The end of this run, and the arguments and id of the next one in the chain."""

    input: Payload
    run_id: UUID | None = None


class RunTerminated(Event, frozen=True):
    """Written from outside: ends the run without its code, so it is never replayed."""

    reason: str = ""


class RunTimedOut(Event, frozen=True):
    """Written without running the code any more, so it is never replayed. ``timeout``: which one has passed."""

    timeout: str = "run_timeout"


def ended_from_outside(event: Event) -> str | None:
    """How ``event`` has ended its run, if that was none of its code's doing: such a history is not replayed."""
    match event:
        case RunTerminated():
            return "terminated from outside"
        case RunTimedOut():
            return "timed out"
        case RunCancelled(began=False):
            return "cancelled before it began"
    return None


class Recorded(msgspec.Struct, frozen=True):
    """An event in its place: ``sequence`` counts from 1 without gaps, ``time`` is the database's clock, UTC.

    ``size``: characters of its stored form, 0 if it is not stored yet.
    """

    sequence: int
    time: datetime
    event: Event
    size: int = 0


TYPES: dict[str, type[Event]] = {
    event.__name__: event
    for event in (
        RunStarted,
        ActivityCompleted,
        ActivityFailed,
        TimerFired,
        SignalReceived,
        UpdateAccepted,
        CancelRequested,
        RunPaused,
        RunResumed,
        RunReset,
        ActivityScheduled,
        ActivityCancelRequested,
        CallbackOpened,
        TimerStarted,
        TimerCancelled,
        SideEffectRecorded,
        SignalRejected,
        UpdateCompleted,
        PatchMarked,
        ChildScheduled,
        ChildStarted,
        ChildStartFailed,
        ChildCompleted,
        ChildFailed,
        ChildCancelRequested,
        ExternalSignalRequested,
        ExternalCancelRequested,
        ExternalDelivered,
        ExternalFailed,
        RunCompleted,
        RunFailed,
        RunCancelled,
        RunContinuedAsNew,
        RunTerminated,
        RunTimedOut,
    )
}
CLOSING = (RunCompleted, RunFailed, RunCancelled, RunContinuedAsNew, RunTerminated, RunTimedOut)
NOTES = (RunPaused, RunResumed, RunReset)
"""Inputs that do not reach the code."""
