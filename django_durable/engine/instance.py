"""One run of a workflow in memory: events in, commands out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine import eviction, inputs, lines, patches, reading, replay, stack, words
from django_durable.engine.callbacks import Opening
from django_durable.engine.children import Child
from django_durable.engine.closing import closing_command
from django_durable.engine.commands import Command
from django_durable.engine.drain import Drain
from django_durable.engine.externals import Request
from django_durable.engine.info import RunInfo
from django_durable.engine.pending import Pending
from django_durable.engine.recorder import Entry
from django_durable.engine.state import RunState
from django_durable.exceptions import DurableError, NonDeterminismError
from django_durable.history import events
from django_durable.history.events import Event, Recorded
from django_durable.history.failures import Failure
from django_durable.history.lingering import Lingering
from django_durable.payloads.payload import Payload

__all__ = ["Instance", "Pending", "RunInfo"]


class Instance:
    """Applies one event at a time to the code of a workflow.

    After ``replay`` the instance is live: ``apply`` takes new events and returns what the code asks for. After any
    exception from ``replay`` or ``apply`` it can only be evicted. An instance that is no longer needed must be
    evicted, closed or not: it may hold code that has not ended.
    """

    __slots__ = (
        "_marked",
        "_origin",
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

    # Events

    def replay(self, history: Sequence[Recorded], *, touch: Callable[[], None] = lambda: None) -> Drain | None:
        """Bring the run to where its history ends. ``touch`` is called before each step.

        A history that is only RunStarted, or that and notes, is applied live: the Drain is returned, and remains to be
        written. Raises ``NonDeterminismError`` if the code does not repeat what history holds, ``DurableError`` for
        what is none.
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
        fresh = replay.only_started(repeatable)
        self._marked = None if fresh else patches.marked(repeatable)
        self._origin = _origin_of(repeatable) or self.info.run_id
        for input, commands in replay.drains(repeatable):
            touch()
            if fresh and isinstance(input.event, events.RunStarted):
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
        return not self.closed and self._state is not None and inputs.accepts(self._state, event)

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
    def started_at(self) -> datetime:
        """Time of the run's first event."""
        return self._running.loop.started

    @property
    def was_asked_to_end(self) -> bool:
        """Whether a request to cancel has reached the run."""
        return self._state is not None and self._state.reason is not None

    @property
    def tainted(self) -> bool:
        """Whether code that may only look has changed something, so that a replay must take this instance's place."""
        return self._state is not None and self._state.recorder.tainted

    @property
    def activities(self) -> dict[int, Pending]:
        """Activities without an outcome, by the sequence of their ActivityScheduled."""
        return self._state.activities.pending if self._state else {}

    @property
    def inherited(self) -> set[str]:
        """Keys of activities that it has got from the run that it was reset from, pending or not."""
        return self._state.activities.inherited if self._state else set()

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
        return self._state.loop.next_timer() if self._state else None

    def waiting(self) -> list[str]:
        """``file:line`` of the places in user code where the run waits; the body's first."""
        return stack.places(self._state) if self._state else []

    def stack(self) -> tuple[stack.StackEntry, ...]:
        """Where each task of the run waits, and what for."""
        return stack.of(self._state) if self._state else ()

    def lingering(self) -> Lingering | None:
        """Open handlers that keep the run from ending, and signals that nobody takes; None if there are neither."""
        return self._state.lingering() if self._state and not self.closed else None

    # Ending

    def evict(self) -> None:
        """Take the run out of memory. Its ``finally`` blocks run now and reach nothing; afterwards nothing runs."""
        state, self._state = self._state, None
        if state is not None:
            eviction.evict(state.loop)
            state.clear()

    # One input

    def _live(self, input: Recorded) -> Drain:
        commands = self._number(self._drain(input, None))
        self.size += input.size
        return Drain(
            input=input.event,
            input_sequence=input.sequence,
            time=self.last_time,
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
        state = self._running
        for command, bearer in entries:
            self.sequence += 1
            command.sequence = self.sequence
            state.keep(bearer, None)
        return tuple(command for command, _ in entries)

    def _repeat(self, input: Recorded, recorded: list[Recorded]) -> None:
        if isinstance(input.event, events.NOTES):
            self._skip(input, recorded)
            return
        if self._state is not None and not self.accepts(input.event):
            raise self._parted([input], input.sequence)
        entries = self._drain(input, recorded)
        taken, unused = replay.match([command for command, _ in entries], recorded)
        missing = next((command for (command, _), event in zip(entries, taken, strict=True) if event is None), None)
        last = self.sequence + len(recorded)
        if missing is not None:
            raise self._parted(unused, last, requested=words.of_command(missing), where=missing.where)
        if unused:
            raise self._parted(unused, last)
        state = self._running
        for (command, bearer), event in zip(entries, taken, strict=True):
            assert event is not None
            command.sequence = event.sequence
            state.keep(bearer, event.event)
        self.sequence = last
        self.size += input.size + sum(item.size for item in recorded)

    def _skip(self, input: Recorded, recorded: list[Recorded]) -> None:
        """An input that does not reach the code: not even its time does."""
        if recorded:
            raise self._parted(recorded, recorded[-1].sequence)
        self.sequence, self.last_time = input.sequence, input.time
        self.size += input.size
        if isinstance(input.event, events.RunReset):
            self._running.reset(input.event, input.time)

    def _drain(self, input: Recorded, recorded: list[Recorded] | None) -> list[Entry]:
        """Apply the input and run until nothing is ready: the commands, without a sequence yet."""
        event = input.event
        if self._state is None:
            assert isinstance(event, events.RunStarted)
            info = self.info if self._origin == self.info.run_id else replace(self.info, run_id=self._origin)
            self._state = RunState(self.definition, info, input, event, marked=self._marked)
        state = self._state
        if input.sequence > self.sequence:  # else notes stand between the start and what it causes
            self.sequence, self.last_time = input.sequence, input.time
        state.begin(input, recorded, size=self.size)
        if not state.recorder.aborted:
            inputs.apply(state, event)
            state.loop.run()
        entries = state.recorder.end()
        if state.recorder.effect_missing:
            _, unused = replay.match([command for command, _ in entries], recorded or [])
            where, last = state.recorder.effect_missing, self.sequence + len(recorded or [])
            raise self._parted(unused, last, requested="a side effect", where=where)
        closing = closing_command(state)
        if closing is not None:
            self.closed = True
            entries.append((closing, None))
        state.tidy(closed=self.closed)
        return entries

    def _parted(
        self, unused: Sequence[Recorded], last: int, *, requested: str = "nothing like it", where: str = ""
    ) -> NonDeterminismError:
        """``unused``: what history holds and the code did not repeat; ``last``: the last event that was compared."""
        place = where or next(iter(self.waiting()), "") or lines.of_function(self.definition.function)
        return replay.parted(self.info.name, unused, last, requested=requested, where=place)

    @property
    def _running(self) -> RunState:
        assert self._state is not None
        return self._state


def _origin_of(history: Iterable[Recorded]) -> UUID | None:
    """The run in which a history that was copied, perhaps several times, began."""
    return next((one.event.from_run for one in history if isinstance(one.event, events.RunReset)), None)
