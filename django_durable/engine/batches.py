"""Batches: many calls at a time, with a limit of how many and a limit of how much may fail."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from django_durable.engine.calling import Calling, name_of
from django_durable.engine.loop import DeterministicLoop
from django_durable.engine.recorder import Recorder
from django_durable.exceptions import BatchError, UnsupportedInWorkflow

T = TypeVar("T")

CONCURRENCY = 1_000
"""Calls of one batch that are under way at a time unless it says otherwise: one drain may ask for 2,000 things.

It is part of what running workflows have done, so it never changes.
"""

Call = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchItem(Generic[T]):
    """What became of one item: ``error`` is set if it has failed; one that was ``cancelled`` has neither."""

    index: int
    status: Literal["succeeded", "failed", "cancelled"]
    result: T | None = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a batch is lost: ``min_successful`` is out of reach, or more than ``tolerated_failures`` have failed."""

    max_concurrency: int | None = None
    min_successful: int | None = None
    tolerated_failures: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("max_concurrency", 1), ("min_successful", 0), ("tolerated_failures", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise ValueError(f"{name} must be a whole number of at least {least}, or None, not {value!r}.")

    def are_broken(self, total: int, failed: int) -> bool:
        """Whether a batch of ``total`` items is lost with so many failures."""
        if self.tolerated_failures is not None and failed > self.tolerated_failures:
            return True
        return self.min_successful is not None and total - failed < self.min_successful

    @property
    def are_set(self) -> bool:
        return self.min_successful is not None or self.tolerated_failures is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult(Generic[T]):
    """What became of a batch, in the order of its items whatever the order in which they ended."""

    items: tuple[BatchItem[T], ...]
    limits: Limits

    def __iter__(self) -> Iterator[BatchItem[T]]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> BatchItem[T]:
        return self.items[index]

    @property
    def results(self) -> list[T | None]:
        """One for each item; None where there is none."""
        return [one.result for one in self.items]

    @property
    def errors(self) -> list[BaseException]:
        """Those of the items that have failed."""
        return [one.error for one in self.items if one.error is not None]

    @property
    def succeeded(self) -> tuple[BatchItem[T], ...]:
        return self._of("succeeded")

    @property
    def failed(self) -> tuple[BatchItem[T], ...]:
        return self._of("failed")

    @property
    def cancelled(self) -> tuple[BatchItem[T], ...]:
        """Items that were stopped, or never begun, because the batch was lost."""
        return self._of("cancelled")

    def raise_if_failed(self) -> None:
        """Raise ``BatchError`` if the batch is lost: without limits, if anything has failed."""
        failed, total = len(self.failed), len(self.items)
        lost = self.limits.are_broken(total, total - len(self.succeeded)) if self.limits.are_set else failed > 0
        if lost:
            raise BatchError(_summary(self), errors=self.errors) from next(iter(self.errors), None)

    def _of(self, status: str) -> tuple[BatchItem[T], ...]:
        return tuple(one for one in self.items if one.status == status)


def _summary(batch: BatchResult[Any]) -> str:
    limits = batch.limits
    words = [f"{len(batch.failed)} of {len(batch)} have failed"]
    if batch.cancelled:
        words.append(f"{len(batch.cancelled)} were cancelled")
    if limits.tolerated_failures is not None:
        words.append(f"{limits.tolerated_failures} may fail")
    if limits.min_successful is not None:
        words.append(f"{limits.min_successful} must succeed")
    first = next(iter(batch.errors), None)
    return ", ".join(words) + (f". The first: {type(first).__name__}: {first}" if first is not None else ".")


class Batches:
    """Makes and runs the batches of a run."""

    __slots__ = ("_calling", "_loop", "_recorder")

    def __init__(self, loop: DeterministicLoop, recorder: Recorder, calling: Calling) -> None:
        self._loop = loop
        self._recorder = recorder
        self._calling = calling

    async def map(self, function: Any, items: Iterable[Any], limits: Limits) -> BatchResult[Any]:
        """Call ``function`` with each item."""
        values = self._listed(items, "ctx.map()")
        calls = [partial(self._calling.call, function, (value,), {}) for value in values]
        return await _Batch(self._loop, calls, limits, name_of(function)).run()

    async def parallel(self, branches: Iterable[Any], limits: Limits) -> BatchResult[Any]:
        """Await each branch: an awaitable, or something to call without arguments."""
        chosen = self._listed(branches, "ctx.parallel()")
        calls = [partial(self._branch, branch) for branch in chosen]
        try:
            return await _Batch(self._loop, calls, limits, "branch").run()
        finally:
            _discard(chosen)

    def _listed(self, items: Iterable[Any], verb: str) -> list[Any]:
        self._loop.gate()
        self._recorder.check()
        if isinstance(items, set | frozenset):
            raise UnsupportedInWorkflow(
                f"{verb} was given a set, which iterates in another order in every process. Give it a list or a tuple."
            )
        return list(items)

    def _branch(self, branch: Any) -> Awaitable[Any]:
        return branch if inspect.isawaitable(branch) else self._calling.call(branch, (), {})


def _discard(branches: Sequence[Any]) -> None:
    """End what was handed over and not begun, because the batch has ended before it."""
    for branch in branches:
        if inspect.iscoroutine(branch):
            branch.close()
        elif asyncio.isfuture(branch):
            branch.cancel()


class _Batch:
    """One batch under way: a task for each call that has begun, at most so many at a time."""

    def __init__(self, loop: DeterministicLoop, calls: Sequence[Call], limits: Limits, name: str) -> None:
        self._loop = loop
        self._calls = calls
        self._limits = limits
        self._name = name
        self._context = contextvars.copy_context()
        self._next = 0
        self._failed = 0
        self._stopped = limits.are_broken(len(calls), 0)
        self._tasks: dict[int, asyncio.Future[Any]] = {}
        self._items: dict[int, BatchItem[Any]] = {}
        self._idle: asyncio.Future[None] = asyncio.Future(loop=loop)

    async def run(self) -> BatchResult[Any]:
        cancelled: asyncio.CancelledError | None = None
        for _ in range(self._limits.max_concurrency or CONCURRENCY):
            self._start()
        while self._tasks:
            self._idle = asyncio.Future(loop=self._loop)
            try:
                await self._idle
            except asyncio.CancelledError as error:
                cancelled = error
                self._stop()
        if cancelled is not None:
            raise cancelled
        items = (self._items.get(index) or _cancelled(index) for index in range(len(self._calls)))
        return BatchResult(items=tuple(items), limits=self._limits)

    def _start(self) -> None:
        """Begin the next call, if there is one."""
        if self._stopped or self._next >= len(self._calls):
            return
        index, self._next = self._next, self._next + 1
        task = self._loop.create_task(
            _await(self._calls[index]), name=f"{self._name} [{index}]", context=self._context.copy()
        )
        self._tasks[index] = task
        task.add_done_callback(partial(self._ended, index), context=contextvars.Context())

    def _ended(self, index: int, task: asyncio.Future[Any]) -> None:
        del self._tasks[index]
        item = self._items[index] = self._outcome(index, task)
        if item.status == "failed":
            self._failed += 1
            if not self._stopped and self._limits.are_broken(len(self._calls), self._failed):
                self._stop()
        self._start()
        if not self._tasks and not self._idle.done():
            self._idle.set_result(None)

    def _outcome(self, index: int, task: asyncio.Future[Any]) -> BatchItem[Any]:
        try:
            return BatchItem(index=index, status="succeeded", result=task.result())
        except asyncio.CancelledError as error:
            if self._stopped:
                return _cancelled(index)
            return BatchItem(index=index, status="failed", error=error)  # it has cancelled itself
        except BaseException as error:
            return BatchItem(index=index, status="failed", error=error)

    def _stop(self) -> None:
        self._stopped = True
        for task in list(self._tasks.values()):
            task.cancel()


async def _await(call: Call) -> Any:
    return await call()


def _cancelled(index: int) -> BatchItem[Any]:
    return BatchItem(index=index, status="cancelled")
