"""Signals that have arrived, and who waits for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from django_durable.engine.loop import DeterministicLoop
from django_durable.engine.recorder import Recorder
from django_durable.history.events import CarriedSignal
from django_durable.payloads.payload import Payload


class Arrived(NamedTuple):
    """A signal: ``ordinal`` counts all signals of the run."""

    ordinal: int
    name: str
    payload: Payload


class Signals:
    """Per name, in order: signals wait for the workflow here, or the workflow for them; never both.

    Who waits for a signal is served first. What nobody waits for goes to the handler of that name, if there is one.
    """

    __slots__ = ("_arrived", "_buffers", "_loop", "_recorder", "_takers", "_waiters")

    def __init__(self, loop: DeterministicLoop, recorder: Recorder) -> None:
        self._loop = loop
        self._recorder = recorder
        self._arrived = 0
        self._buffers: dict[str, deque[Arrived]] = {}
        self._waiters: dict[str, deque[asyncio.Future[Arrived]]] = {}
        self._takers: dict[str, Callable[[Arrived], None]] = {}

    def receive(self, name: str, payload: Payload) -> None:
        """A signal has reached the run: it goes to whoever has waited longest, else to its handler or the buffer."""
        self._arrived += 1
        arrived = Arrived(self._arrived, name, payload)
        if not self._hand_over(arrived):
            self._buffers.setdefault(name, deque()).append(arrived)

    def hand_to(self, name: str, taker: Callable[[Arrived], None]) -> None:
        """Let ``taker`` have the signals of that name that nobody waits for, those in the buffer at once."""
        self._takers[name] = taker
        for arrived in self._buffers.pop(name, ()):
            taker(arrived)

    def hand_to_nobody(self) -> None:
        """No handler takes signals any more."""
        self._takers.clear()

    async def next(self, name: str, timeout: timedelta | float | None, label: str) -> Payload:
        """The payload of the next signal of that name. Raises ``TimeoutError`` if none comes within ``timeout``."""
        if self._loop.evicted:
            await self._loop.create_future()
        self._recorder.check()
        arrived = self.take(name) or await self._arrival(name, timeout, label)
        return arrived.payload

    async def _arrival(self, name: str, timeout: timedelta | float | None, label: str) -> Arrived:
        waiter: asyncio.Future[Arrived] = asyncio.Future(loop=self._loop)
        timer = None
        if timeout is not None:
            message = f"No signal {name!r} came within {timeout}."
            timer = self._loop.start_after(timeout, _time_out, waiter, message, label=label)
        self.wait(name, waiter)
        try:
            return await waiter
        except (asyncio.CancelledError, TimeoutError):
            self.leave(name, waiter)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def take(self, name: str) -> Arrived | None:
        """The oldest buffered signal of that name, if there is one."""
        buffer = self._buffers.get(name)
        return buffer.popleft() if buffer else None

    def wait(self, name: str, waiter: asyncio.Future[Arrived]) -> None:
        """Let ``waiter`` have the next signal of that name, after those who wait already."""
        self._waiters.setdefault(name, deque()).append(waiter)

    def leave(self, name: str, waiter: asyncio.Future[Arrived]) -> None:
        """``waiter`` waits no longer. A signal that it was given and could not take any more goes to the next."""
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            arrived = waiter.result()
            if not self._hand_over(arrived):
                self._buffers.setdefault(name, deque()).appendleft(arrived)
        elif waiter in (waiters := self._waiters.get(name, ())):
            waiters.remove(waiter)  # type: ignore[union-attr]

    def describe(self, future: asyncio.Future[Any]) -> str | None:
        """What a wait for ``future`` is, if it is one for a signal."""
        return next(
            (f"signal {name}" for name, waiters in self._waiters.items() if any(one is future for one in waiters)),
            None,
        )

    @property
    def any(self) -> bool:
        """Whether there are signals that nobody has taken."""
        return bool(self._buffers) and any(self._buffers.values())

    def unhandled(self) -> tuple[str, ...]:
        """Names of the signals that nobody has taken, in the order of their arrival."""
        waiting = [arrived for buffer in self._buffers.values() for arrived in buffer]
        return tuple(arrived.name for arrived in sorted(waiting))

    def carried(self) -> tuple[CarriedSignal, ...]:
        """The signals that nobody has taken, for the next run of the chain."""
        waiting = [arrived for buffer in self._buffers.values() for arrived in buffer]
        return tuple(CarriedSignal(name=one.name, payload=one.payload) for one in sorted(waiting))

    def clear(self) -> None:
        self._buffers.clear()
        self._waiters.clear()
        self._takers.clear()

    def _hand_over(self, arrived: Arrived) -> bool:
        waiters = self._waiters.get(arrived.name)
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(arrived)
                return True
        taker = self._takers.get(arrived.name)
        if taker is None:
            return False
        taker(arrived)
        return True


def _time_out(waiter: asyncio.Future[Arrived], message: str) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError(message))
