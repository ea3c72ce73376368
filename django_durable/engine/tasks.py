"""Tasks and futures that iterate in the same order in every process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

_MASK = (1 << 64) - 1


def mix(seed: int, ordinal: int) -> int:
    """A 64-bit number that looks random, yet only depends on its arguments.

    This is splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    Plain ordinals would do for order, but asyncio keeps the tasks of all runs in one global set, where the first
    task of every run would collide with the first task of every other.
    """
    number = (seed + ordinal * 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


class Task(asyncio.Task[Any]):
    """A task whose hash comes from the run's seed and the task's ordinal, not from its address."""

    __slots__ = ("_number", "ordinal")

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        loop: asyncio.AbstractEventLoop,
        seed: int,
        ordinal: int,
        name: str | None = None,
        context: Context | None = None,
    ) -> None:
        self.ordinal = ordinal
        self._number = mix(seed, ordinal)  # before the base class puts the task into its global set
        super().__init__(coro, loop=loop, name=name or f"Task-{ordinal}", context=context)

    def __hash__(self) -> int:
        return self._number


class Future(asyncio.Future[Any]):
    """A future with such a hash too."""

    __slots__ = ("_ordinal", "_seed")

    def __init__(self, *, loop: asyncio.AbstractEventLoop, seed: int, ordinal: int) -> None:
        self._seed = seed
        self._ordinal = ordinal
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return mix(self._seed, self._ordinal)
