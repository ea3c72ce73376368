"""Durable timers: they fire because history says so, never because a clock passed."""

from __future__ import annotations

import asyncio
import heapq
from typing import Any

from django_durable.engine.commands import StartTimer


def wake(future: asyncio.Future[None]) -> None:
    """The callback of the timer of a ``ctx.sleep()``."""
    if not future.done():
        future.set_result(None)


_SLEEPS = (wake.__name__, "_set_result_unless_cancelled")  # the latter is that of asyncio.sleep()


class Timer(asyncio.TimerHandle):
    """What ``call_at`` and ``call_later`` return inside a workflow.

    ``due`` is in microseconds since the run started; ``ticket`` finds its command while its drain is under way,
    the sequence of ``command`` finds the timer afterwards. A timer that is due at once has no command.
    """

    __slots__ = ("command", "due", "ticket")

    def __init__(self, when: float, callback: Any, args: Any, loop: Any, context: Any) -> None:
        super().__init__(when, callback, args, loop, context)
        self.due = 0
        self.command: StartTimer | None = None
        self.ticket = 0


class Timers:
    """The timers that are recorded and have neither fired nor been cancelled."""

    __slots__ = ("_heap", "_started")

    def __init__(self) -> None:
        self._started: dict[int, Timer] = {}
        self._heap: list[tuple[int, int]] = []

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._started

    def add(self, timer: Timer) -> None:
        """Keep a timer whose command has got its sequence."""
        assert timer.command is not None
        sequence = timer.command.sequence
        self._started[sequence] = timer
        heapq.heappush(self._heap, (timer.due, sequence))

    def remove(self, sequence: int) -> Timer | None:
        """The timer, which has fired or was cancelled; None if it is not here (any more)."""
        timer = self._started.pop(sequence, None)
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._started):
            self._compact()
        return timer

    def due(self, sequence: int) -> int:
        return self._started[sequence].due

    def describe(self, future: asyncio.Future[Any]) -> str | None:
        """What a wait for ``future`` is, if it is one for a timer."""
        for timer in self._started.values():
            if timer._args and timer._args[0] is future and _name_of(timer) in _SLEEPS:
                return _words(timer.command) if timer.command else "a timer"
        return None

    def next(self) -> tuple[int, int] | None:
        """(due, sequence) of the earliest timer; of equal ones the one that was started first."""
        heap = self._heap
        while heap and heap[0][1] not in self._started:
            heapq.heappop(heap)
        return heap[0] if heap else None

    def clear(self) -> None:
        self._started.clear()
        self._heap.clear()

    def _compact(self) -> None:
        # Time limits are mostly cancelled long before they are due: without this they would pile up.
        self._heap = [(timer.due, sequence) for sequence, timer in self._started.items()]
        heapq.heapify(self._heap)


def _words(command: StartTimer) -> str:
    return f"a timer of {command.duration / 1_000_000:g} s{f' ({command.label})' if command.label else ''}"


def _name_of(timer: Timer) -> str:
    return getattr(timer._callback, "__name__", "")  # type: ignore[attr-defined]
