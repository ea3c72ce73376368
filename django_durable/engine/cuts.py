"""Where a history is cut for a reset, and what is carried over from behind the cut.

Cuts are made just before an input only: a drain is one step, and a replay could not repeat half of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django_durable.engine.replay import only_started
from django_durable.exceptions import DurableError
from django_durable.history import events, messages
from django_durable.history.events import Recorded
from django_durable.history.failures import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """``before``: the first sequence that is not copied; 1: everything begins anew, with the same arguments.

    ``again``: sequences of open activities and callbacks that are to be begun once more; ``interrupted``: of those
    that somebody was executing, for all that is known. ``carried``: what reached the run behind the cut and is sent
    to it once more, in order. ``open``: what was asked for and has no outcome before the cut, ``children``: the
    children among it whose outcome is not carried; ``decided``: keys of activities to be begun once more that had an
    outcome, or were given up, behind the cut. ``unseen``: keys of all that have none in the whole history.
    """

    before: int
    again: tuple[int, ...] = ()
    interrupted: tuple[int, ...] = ()
    carried: tuple[messages.Message, ...] = ()
    open: tuple[Recorded, ...] = ()
    children: tuple[Recorded, ...] = ()
    decided: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


def place_of(history: Sequence[Recorded], to_event: int) -> int:
    """The sequence of the input whose drain holds ``to_event``. Raises ``DurableError`` if there is no such event."""
    if isinstance(to_event, bool) or not isinstance(to_event, int):
        raise TypeError(f"to_event is the sequence of an event, a whole number, not {to_event!r}.")
    if not 1 <= to_event <= len(history):
        raise DurableError(f"There is no event {to_event}: the history of this run goes from 1 to {len(history)}.")
    return next(one.sequence for one in reversed(history[:to_event]) if _is_step(one.event))


def retry_place(history: Sequence[Recorded]) -> tuple[int, bool]:
    """Where a failed run is tried again, and whether what failed there, an activity or a child, is executed again.

    That is the failure which the run's own came from; else the last drain. Raises ``DurableError`` for a run that has
    neither failed nor timed out.
    """
    last = history[-1]
    if isinstance(last.event, events.RunTimedOut):
        return last.sequence, False
    if not isinstance(last.event, events.RunFailed):
        raise DurableError("Only a run that has failed or timed out can be retried. Any other can be reset.")
    came_from = next((one for one in reversed(history) if _explains(one.event, last.event.failure)), None)
    place = place_of(history, last.sequence)
    if came_from is not None:
        return came_from.sequence, True
    return place, isinstance(history[place - 1].event, events.ActivityFailed | events.ChildFailed)


def _is_step(event: events.Event) -> bool:
    return event.is_input or events.ended_from_outside(event) is not None


def _explains(event: events.Event, failure: Failure | None) -> bool:
    """Whether the run's failure, or one of those behind it, is what code makes of this event."""
    if not isinstance(event, events.ActivityFailed | events.ChildFailed):
        return False
    kind = "ActivityError" if isinstance(event, events.ActivityFailed) else "ChildWorkflowError"
    while failure is not None:
        behind = failure.cause
        if failure.type == kind and failure.message == event.failure.message:
            if behind is None or behind.type == event.failure.type:
                return True
        failure = behind
    return False


def cut(history: Sequence[Recorded], before: int, *, again: bool, reapply_signals: bool) -> Cut:
    """Cut just before the input ``before``. ``again``: if that is an outcome, its activity or child is tried again."""
    prefix, behind = history[: before - 1], history[before - 1 :]
    if only_started(prefix):  # no step of the code may be recorded
        older = {one.key for one in carried_callbacks(history)}
        asked = {one.sequence: one for one in behind if getattr(one.event, "key", None) in older}
        carried = list(_carried(behind, asked, None, reapply_signals=reapply_signals))
        return Cut(before=1, carried=tuple(carried), unseen=_unseen(history))
    open_ = _open(prefix)
    target = _answers(behind[0].event) if again else None
    carried = list(_carried(behind, open_, target, reapply_signals=reapply_signals))
    answered = {one.key for one in carried if _is_outcome(one)}  # type: ignore[union-attr]
    waiting = [one for one in open_.values() if one.event.key not in answered]  # type: ignore[attr-defined]
    executed = [one for one in waiting if isinstance(one.event, _EXECUTED)]
    failed = {_answers(one.event) for one in behind if isinstance(one.event, events.ActivityFailed)}
    undecided = _open(history)
    interrupted = [one for one in executed if one.sequence not in failed and _was_local(one.event)]
    return Cut(
        before=before,
        again=tuple(one.sequence for one in executed if one not in interrupted),
        interrupted=tuple(one.sequence for one in interrupted),
        carried=(*carried, *_unanswered(waiting)),
        open=tuple(open_.values()),
        children=tuple(one for one in waiting if isinstance(one.event, events.ChildScheduled)),
        decided=tuple(one.event.key for one in executed if one.sequence not in undecided),  # type: ignore[attr-defined]
        unseen=_unseen(history),
    )


def carried_callbacks(history: Sequence[Recorded]) -> tuple[events.CarriedCallback, ...]:
    """The callbacks that a run has got from the run before it."""
    started = history[0].event
    assert isinstance(started, events.RunStarted)
    return started.callbacks


def _is_outcome(message: messages.Message) -> bool:
    if isinstance(message, messages.ChildStart):
        return message.failure is not None
    return not isinstance(message, messages.Signal)


def _was_local(event: events.Event) -> bool:
    """Whether the run's owner executed it without a task row."""
    return isinstance(event, events.ActivityScheduled) and event.worker is not None


_EXECUTED = (events.ActivityScheduled, events.CallbackOpened)
_REQUESTS = (events.ExternalSignalRequested, events.ExternalCancelRequested)
_ASKED = (*_EXECUTED, *_REQUESTS, events.ChildScheduled)


def _open(prefix: Iterable[Recorded]) -> dict[int, Recorded]:
    """What was asked for and has no outcome, by sequence."""
    found: dict[int, Recorded] = {}
    for one in prefix:
        if isinstance(one.event, _ASKED):
            found[one.sequence] = one
        elif isinstance(one.event, events.ActivityCancelRequested) and not one.event.wait:
            found.pop(one.event.activity, None)
        elif (answered := _answers(one.event)) is not None:
            found.pop(answered, None)
    return found


def _unseen(history: Iterable[Recorded]) -> tuple[str, ...]:
    asked = [one.event for one in _open(history).values()]
    return tuple(event.key for event in asked if isinstance(event, events.ActivityScheduled))


def _answers(event: events.Event) -> int | None:
    """The sequence of what this event is the outcome of."""
    match event:
        case events.ActivityCompleted() | events.ActivityFailed():
            return event.activity
        case events.ChildCompleted() | events.ChildFailed() | events.ChildStartFailed():
            return event.child
        case events.ExternalDelivered() | events.ExternalFailed():
            return event.request
    return None


def _carried(
    behind: Iterable[Recorded], open_: dict[int, Recorded], target: int | None, *, reapply_signals: bool
) -> Iterable[messages.Message]:
    for one in behind:
        event: Any = one.event
        if isinstance(event, events.SignalReceived):
            if reapply_signals:
                yield messages.Signal(name=event.name, payload=event.payload)
            continue
        if isinstance(event, events.ChildStarted) and event.child in open_:
            yield messages.ChildStart(key=open_[event.child].event.key)  # type: ignore[attr-defined]
            continue
        asked = open_.get(_answers(event) or 0)
        if asked is not None and asked.sequence != target:
            message = _answer(asked.event.key, event)  # type: ignore[attr-defined]
            if message is not None:
                yield message


def _answer(key: str, event: Any) -> messages.Message | None:
    """The outcome once more; None: what has failed is executed again instead."""
    match event:
        case events.ActivityCompleted():
            return messages.ActivityResult(
                key=key, result=event.result, attempts=event.attempts, looks=max(0, event.attempts - 1)
            )
        case events.ChildCompleted():
            return messages.ChildResult(key=key, status="completed", result=event.result)
        case events.ChildFailed():
            return messages.ChildResult(key=key, status=event.status, failure=event.failure)
        case events.ChildStartFailed():
            return messages.ChildStart(key=key, failure=event.failure)
        case events.ExternalDelivered():
            return messages.ExternalResult(key=key)
        case events.ExternalFailed():
            return messages.ExternalResult(key=key, failure=event.failure)
    return None


def _unanswered(waiting: Iterable[Recorded]) -> Iterable[messages.Message]:
    """Messages to others were sent with the event that records them; if the answer is not known, they have arrived."""
    for one in waiting:
        if isinstance(one.event, _REQUESTS):
            yield messages.ExternalResult(key=one.event.key)
