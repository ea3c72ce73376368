"""Signals that have arrived, and who waits for them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from django_durable.payloads.payload import Payload


class Arrived(NamedTuple):
    """A signal: ``ordinal`` counts all signals of the run."""

    ordinal: int
    name: str
    payload: Payload


class Signals:
    """Per name, in order: signals wait for the workflow here, or the workflow for them; never both."""

    __slots__ = ("_arrived", "_buffers", "_waiters")

    def __init__(self) -> None:
        self._arrived = 0
        self._buffers: dict[str, deque[Arrived]] = {}
        self._waiters: dict[str, deque[asyncio.Future[Arrived]]] = {}

    def receive(self, name: str, payload: Payload) -> None:
        """A signal has reached the run: it goes to whoever has waited longest, else into the buffer."""
        self._arrived += 1
        arrived = Arrived(self._arrived, name, payload)
        if not self._hand_over(arrived):
            self._buffers.setdefault(name, deque()).append(arrived)

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

    def unhandled(self) -> tuple[str, ...]:
        """Names of the signals that nobody has taken, in the order of their arrival."""
        waiting = [arrived for buffer in self._buffers.values() for arrived in buffer]
        return tuple(arrived.name for arrived in sorted(waiting))

    def clear(self) -> None:
        self._buffers.clear()
        self._waiters.clear()

    def _hand_over(self, arrived: Arrived) -> bool:
        waiters = self._waiters.get(arrived.name)
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(arrived)
                return True
        return False
