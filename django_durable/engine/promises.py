"""Values to come that any number of tasks may wait for, and that outlive the cancellation of those who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from django_durable.engine.loop import DeterministicLoop


class Promise:
    """Unlike a future it is not cancelled along with the task that awaits it, and it may fail unseen."""

    __slots__ = ("_loop", "_outcome", "_waiters")

    def __init__(self, loop: DeterministicLoop) -> None:
        self._loop = loop
        self._outcome: Callable[[], Any] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def is_kept(self) -> bool:
        return self._outcome is not None

    def keep(self, outcome: Callable[[], Any]) -> None:
        """Decide it: ``outcome`` gives the value, or raises, each time that somebody asks."""
        if self._outcome is not None:
            return
        self._outcome = outcome
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait(self) -> None:
        """Return once it is decided."""
        if self._outcome is not None:
            return
        waiter: asyncio.Future[None] = asyncio.Future(loop=self._loop)
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def value(self) -> Any:
        """The value, or the error. Only once it is decided."""
        assert self._outcome is not None
        return self._outcome()

    def is_awaited_by(self, future: asyncio.Future[Any]) -> bool:
        return any(waiter is future for waiter in self._waiters)
