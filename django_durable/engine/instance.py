"""One run of a workflow in memory: events in, commands out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine import eviction, lines, patches, reading, replay, stack, words
from django_durable.engine.activities import Activities
from django_durable.engine.callbacks import Callbacks, Opening
from django_durable.engine.children import Child
from django_durable.engine.closing import closing_command
from django_durable.engine.commands import Command
from django_durable.engine.context import Context
from django_durable.engine.drain import Drain
from django_durable.engine.externals import Request
from django_durable.engine.info import RunInfo
from django_durable.engine.pending import Pending
from django_durable.engine.state import RunState
from django_durable.engine.tasks import Task
from django_durable.engine.timers import Timer
from django_durable.exceptions import DurableError, NonDeterminismError
from django_durable.history import events
from django_durable.history.events import Event, Recorded
from django_durable.history.failures import Failure
from django_durable.history.lingering import Lingering
from django_durable.payloads.payload import Payload

__all__ = ["Instance", "Pending", "RunInfo"]

Bearer = Timer | Pending | Opening | Child | Request | None
Entry = tuple[Command, Bearer]
"""A command, and what waits for its sequence."""


class Instance:
    """Applies one event at a time to the code of a workflow.

    After ``replay`` the instance is live: ``apply`` takes new events and returns what the code asks for. After any
    exception from ``replay`` or ``apply`` it can only be evicted. An instance that is no longer needed must be
    evicted, closed or not: it may hold code that has not ended.
    """

    __slots__ = (
        "_main",
        "_marked",
        "_origin",
        "_reason",
        "_state",
        "closed",
        "definition",
        "info",
        "last_time",
        "sequence",
        "size",
    )

    last_time: datetime
    """Time of the last event; unset before the first."""

    def __init__(self, definition: WorkflowDefinition[..., Any], info: RunInfo) -> None:
        self.definition = definition
        self.info = info
        self.sequence = 0
        """The last sequence that is used."""
        self.closed = False
        """Whether the run has ended."""
        self.size = 0
        """Characters of the stored history. Who stores what was applied adds to it."""
        self._marked: frozenset[str] | None = frozenset()
        self._origin = info.run_id  # the run that it was reset from, or else itself
        self._state: RunState | None = None
        self._main: Task | None = None
        self._reason: str | None = None  # of the request to cancel, once there was one

    # Events

    def replay(self, history: Sequence[Recorded], *, touch: Callable[[], None] = lambda: None) -> Drain | None:
        """Bring the run to where its history ends. ``touch`` is called before each step.

        A history that is only RunStarted is applied live: the Drain is returned, and remains to be written. Raises
        ``NonDeterminismError`` if the code does not repeat what history holds, ``DurableError`` for what is none.
        """
        self._marked = patches.marked(history)
        self._origin = _origin_of(history) or self.info.run_id
        before: tuple[Recorded, list[Recorded]] | None = None
        for drain in replay.drains(history):
            touch()
            if before is not None:
                self._repeat(*before)
            before = drain
        assert before is not None
        if self._state is None and not before[1]:
            return self._live(before[0])
        self._repeat(*before)
        return None

    def look(self, history: Iterable[Recorded], *, touch: Callable[[], None] = lambda: None) -> None:
        """Bring the run to where its history ends, to be looked at and evicted: nothing can be applied afterwards.

        An end that came from outside is left out, and of a run that has only been started the first drain is run
        without anything coming of it. ``touch`` is called before each step. Raises what ``replay`` raises.
        """
        repeatable = [one for one in history if events.ended_from_outside(one.event) is None]
        self._marked = patches.marked(repeatable) if len(repeatable) > 1 else None
        self._origin = _origin_of(repeatable) or self.info.run_id
        for input, commands in replay.drains(repeatable):
            touch()
            if len(repeatable) == 1:
                self._glimpse(input)
            else:
                self._repeat(input, commands)

    def refusal(self, update: events.UpdateAccepted) -> Failure | None:
        """Why ``update`` is not to be applied, as its validator says; None if it may be."""
        return reading.refusal(self._running, update)

    def answer(self, query: str, input: Payload) -> Any:
        """What the handler of ``query`` returns. Raises ``QueryFailed``, or whatever the handler raises."""
        return reading.answer(self._running, query, input)

    def accepts(self, event: Event) -> bool:
        """Whether ``event`` still means something to the run; if not, it is dropped without a trace."""
        if self.closed or self._state is None:
            return False
        fits = _ACCEPTS.get(type(event))
        return fits is not None and fits(self._state, event)

    def apply(self, event: Event, time: datetime) -> Drain:
        """Apply a new event that ``accepts`` has let through, at ``time`` or the time of the event before, if later.

        Raises ``WorkflowStuck`` if the watchdog injected it; every other fault of the code is a failure of the run.
        """
        if not self.accepts(event):
            raise DurableError(f"This run does not take {words.of_event(event)} now. Ask accepts() first.")
        time = max(time, self.last_time)
        if isinstance(event, events.TimerFired):
            time = max(time, self._running.loop.date(self._running.loop.timers.due(event.timer)))
        return self._live(Recorded(self.sequence + 1, time, event))

    # Looking

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The search attributes that the run has."""
        return self._running.showing.values

    @property
    def beginning(self) -> events.RunStarted:
        """The run's first event."""
        return self._running.beginning

    @property
    def was_asked_to_end(self) -> bool:
        """Whether a request to cancel has reached the run."""
        return self._reason is not None

    @property
    def tainted(self) -> bool:
        """Whether code that may only look has changed something, so that a replay must take this instance's place."""
        return self._state is not None and self._state.recorder.tainted

    @property
    def activities(self) -> dict[int, Pending]:
        """Activities without an outcome, by the sequence of their ActivityScheduled."""
        return self._state.activities.pending if self._state else {}

    @property
    def callbacks(self) -> dict[int, Opening]:
        """Callbacks that nobody has fulfilled, by the sequence of their CallbackOpened."""
        return self._state.callbacks.pending if self._state else {}

    @property
    def children(self) -> dict[int, Child]:
        """Children that have not ended, by the sequence of their ChildScheduled."""
        return self._state.children.pending if self._state else {}

    @property
    def unstarted(self) -> set[int]:
        """Children of which it is not known yet whether they could be started."""
        return self._state.children.unstarted if self._state else set()

    @property
    def requests(self) -> dict[int, Request]:
        """Messages to other workflows without an answer, by the sequence of their events."""
        return self._state.externals.pending if self._state else {}

    @property
    def had_children(self) -> bool:
        """Whether it has ever asked for one."""
        return self._state is not None and self._state.children.any

    def next_timer(self) -> tuple[datetime, int] | None:
        """When the earliest timer is due, and the sequence of its TimerStarted; None if there is none."""
        following = self._state.loop.timers.next() if self._state else None
        if self._state is None or following is None:
            return None
        due, sequence = following
        return self._state.loop.started + timedelta(microseconds=due), sequence

    def waiting(self) -> list[str]:
        """``file:line`` of the places in user code where the run waits; the body's first."""
        if self._state is None:
            return []
        places = (lines.of_coroutine(task.get_coro()) for task in self._state.loop.tasks.values())
        return [place for place in dict.fromkeys(places) if place]

    def stack(self) -> tuple[stack.StackEntry, ...]:
        """Where each task of the run waits, and what for."""
        return stack.of(self._state) if self._state else ()

    def lingering(self) -> Lingering | None:
        """Open handlers that keep the run from ending, and signals that nobody takes; None if there are neither."""
        if self._state is None or self.closed:
            return None
        found = Lingering(
            handlers=tuple(self._state.handlers.awaited()),
            signals=tuple(dict.fromkeys(self._state.signals.unhandled())),
        )
        return found if found.handlers or found.signals else None

    # Ending

    def evict(self) -> None:
        """Take the run out of memory. Its ``finally`` blocks run now and reach nothing; afterwards nothing runs."""
        state, self._state, self._main = self._state, None, None
        if state is not None:
            eviction.evict(state.loop)
            state.activities.clear()
            state.signals.clear()
            state.handlers.clear()
            state.conditions.clear()
            state.compensations.clear()
            state.children.clear()
            state.externals.clear()
            state.callbacks.clear()

    # One input

    def _live(self, input: Recorded) -> Drain:
        commands = self._number(self._drain(input, None))
        self.size += input.size
        return Drain(
            input=input.event,
            input_sequence=input.sequence,
            time=input.time,
            commands=commands,
            closing=commands[-1] if self.closed else None,
            shown=self._running.showing.take(),
        )

    def _glimpse(self, input: Recorded) -> None:
        try:
            self._number(self._drain(input, []))
        except NonDeterminismError as error:  # a side effect, whose value would stand in the history
            raise DurableError("This run has not begun yet: no worker has carried out its first step.") from error

    def _number(self, entries: list[Entry]) -> tuple[Command, ...]:
        """Give the commands of a drain the sequences that follow."""
        for command, bearer in entries:
            self.sequence += 1
            command.sequence = self.sequence
            self._keep(bearer, None)
        return tuple(command for command, _ in entries)

    def _repeat(self, input: Recorded, recorded: list[Recorded]) -> None:
        if isinstance(input.event, events.NOTES):
            self._skip(input, recorded)
            return
        if self._state is not None and not self.accepts(input.event):
            raise self._differs(event=input.sequence, recorded=words.of_event(input.event), requested="nothing like it")
        entries = self._drain(input, recorded)
        taken, unused = replay.match([command for command, _ in entries], recorded)
        missing = next((command for (command, _), event in zip(entries, taken, strict=True) if event is None), None)
        last = input.sequence + len(recorded)
        if missing is not None or unused:
            raise self._parted(missing, unused, last)
        for (command, bearer), event in zip(entries, taken, strict=True):
            assert event is not None
            command.sequence = event.sequence
            self._keep(bearer, event.event)
        self.sequence = last
        self.size += input.size + sum(item.size for item in recorded)

    def _skip(self, input: Recorded, recorded: list[Recorded]) -> None:
        """An input that does not reach the code: not even its time does."""
        if recorded:
            raise self._parted(None, recorded, recorded[-1].sequence)
        self.sequence, self.last_time = input.sequence, input.time
        self.size += input.size
        if isinstance(input.event, events.RunReset):
            self._running.reset(input.event, input.time)

    def _drain(self, input: Recorded, recorded: list[Recorded] | None) -> list[Entry]:
        """Apply the input and run until nothing is ready: the commands, without a sequence yet."""
        event = input.event
        if self._state is None:
            assert isinstance(event, events.RunStarted)
            info = replace(self.info, run_id=self._origin)
            self._state = RunState(self.definition, info, input, event, marked=self._marked)
        state = self._state
        self.sequence = input.sequence
        self.last_time = input.time
        state.begin(input, recorded, size=self.size)
        if not state.recorder.aborted:
            _APPLY[type(event)](self, event)
            state.loop.run()
        entries = state.recorder.end()
        if state.recorder.effect_missing:
            raise self._effect_missing(entries, input, recorded or [])
        closing = closing_command(self.definition, state, self._main, self._reason)
        if closing is not None:
            self.closed = True
            entries.append((closing, None))
        state.tidy(closed=self.closed)
        return entries

    def _keep(self, bearer: Bearer, recorded: Event | None) -> None:
        """Put a timer or an activity of this drain under the sequence that its command has now."""
        if bearer is None:
            return
        state = self._running
        match bearer:
            case Timer():
                state.loop.timers.add(bearer)
            case Opening():
                state.callbacks.keep(bearer, recorded)
            case Child():
                state.children.keep(bearer, recorded)
            case Request():
                state.externals.keep(bearer, recorded)
            case _:
                state.activities.keep(bearer, recorded)

    @property
    def _running(self) -> RunState:
        assert self._state is not None
        return self._state

    # Inputs

    def _start(self, event: events.RunStarted) -> None:
        state = self._running
        try:
            args, kwargs = self.definition.decode_input(event.input)
            body = self.definition.function(Context(state), *args, **kwargs)
        except Exception as error:  # the input does not fit the function's signature
            state.recorder.verdict = error
            return
        for carried in event.signals:
            state.signals.receive(carried.name, carried.payload)
        self._main = state.loop.create_main(state.compensations.guard(body), name=self.info.name)
        state.handlers.watch(self._main)

    def _complete_activity(self, event: events.ActivityCompleted) -> None:
        self._waiting_for(event).complete(event)

    def _fail_activity(self, event: events.ActivityFailed) -> None:
        self._waiting_for(event).fail(event)

    def _waiting_for(self, event: events.ActivityCompleted | events.ActivityFailed) -> Activities | Callbacks:
        state = self._running
        return state.activities if event.activity in state.activities.pending else state.callbacks

    def _fire_timer(self, event: events.TimerFired) -> None:
        self._running.loop.fire(event.timer)

    def _begin_child(self, event: events.ChildStarted) -> None:
        self._running.children.begun(event)

    def _fail_to_begin_child(self, event: events.ChildStartFailed) -> None:
        self._running.children.not_begun(event)

    def _complete_child(self, event: events.ChildCompleted) -> None:
        self._running.children.complete(event)

    def _fail_child(self, event: events.ChildFailed) -> None:
        self._running.children.fail(event)

    def _delivered(self, event: events.ExternalDelivered) -> None:
        self._running.externals.delivered(event)

    def _not_delivered(self, event: events.ExternalFailed) -> None:
        self._running.externals.failed(event)

    def _receive_signal(self, event: events.SignalReceived) -> None:
        self._running.signals.receive(event.name, event.payload)

    def _accept_update(self, event: events.UpdateAccepted) -> None:
        self._running.handlers.accept(event)

    def _cancel(self, event: events.CancelRequested) -> None:
        main = self._main
        if main is None or (self._reason is not None and main.cancelling()):
            return  # a second request while the first is being handled changes nothing
        self._reason = event.reason
        if main.done():
            self._running.handlers.cancel(event.reason)
        else:
            self._running.loop.call_soon(main.cancel, event.reason or None)

    # Differences

    def _parted(self, command: Command | None, unused: list[Recorded], last: int) -> NonDeterminismError:
        return self._differs(
            event=unused[0].sequence if unused else last + 1,
            recorded=words.of_event(unused[0].event) if unused else f"nothing more after event {last}",
            requested=words.of_command(command) if command else "nothing like it",
            where=command.where if command else "",
        )

    def _effect_missing(self, entries: list[Entry], input: Recorded, recorded: list[Recorded]) -> NonDeterminismError:
        _, unused = replay.match([command for command, _ in entries], recorded)
        last = input.sequence + len(recorded)
        return self._differs(
            event=unused[0].sequence if unused else last + 1,
            recorded=words.of_event(unused[0].event) if unused else f"nothing more after event {last}",
            requested="a side effect",
            where=self._running.recorder.effect_missing,
        )

    def _differs(self, *, event: int, recorded: str, requested: str, where: str = "") -> NonDeterminismError:
        place = where or next(iter(self.waiting()), "") or lines.of_function(self.definition.function)
        return replay.difference(self.info.name, event=event, recorded=recorded, requested=requested, where=place)


def _is_awaited(state: RunState, sequence: int) -> bool:
    """Whether an activity or a callback still has no outcome."""
    return sequence in state.activities.pending or sequence in state.callbacks.pending


def _origin_of(history: Iterable[Recorded]) -> UUID | None:
    """The run in which a history that was copied, perhaps several times, began."""
    return next((one.event.from_run for one in history if isinstance(one.event, events.RunReset)), None)


_APPLY: dict[type[Event], Callable[[Instance, Any], None]] = {
    events.RunStarted: Instance._start,
    events.ActivityCompleted: Instance._complete_activity,
    events.ActivityFailed: Instance._fail_activity,
    events.TimerFired: Instance._fire_timer,
    events.ChildStarted: Instance._begin_child,
    events.ChildStartFailed: Instance._fail_to_begin_child,
    events.ChildCompleted: Instance._complete_child,
    events.ChildFailed: Instance._fail_child,
    events.ExternalDelivered: Instance._delivered,
    events.ExternalFailed: Instance._not_delivered,
    events.SignalReceived: Instance._receive_signal,
    events.UpdateAccepted: Instance._accept_update,
    events.CancelRequested: Instance._cancel,
}

_ACCEPTS: dict[type[Event], Callable[[RunState, Any], bool]] = {
    events.ActivityCompleted: lambda state, event: _is_awaited(state, event.activity),
    events.ActivityFailed: lambda state, event: _is_awaited(state, event.activity),
    events.TimerFired: lambda state, event: event.timer in state.loop.timers,
    events.ChildStarted: lambda state, event: event.child in state.children.unstarted,
    events.ChildStartFailed: lambda state, event: event.child in state.children.pending,
    events.ChildCompleted: lambda state, event: event.child in state.children.pending,
    events.ChildFailed: lambda state, event: event.child in state.children.pending,
    events.ExternalDelivered: lambda state, event: event.request in state.externals.pending,
    events.ExternalFailed: lambda state, event: event.request in state.externals.pending,
    events.SignalReceived: lambda state, event: True,
    events.UpdateAccepted: lambda state, event: state.handlers.takes_update(event),
    events.CancelRequested: lambda state, event: True,
}
