"""Conditions: predicates over what the workflow has, and the code that waits until they hold."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django_durable.engine import lines
from django_durable.engine.loop import DeterministicLoop
from django_durable.engine.recorder import Recorder
from django_durable.exceptions import DefinitionError, WorkflowSuspended

Predicate = Callable[[], Any]


class Condition:
    """A predicate that somebody waits for. It is called in the ``contextvars`` of who waits."""

    __slots__ = ("context", "predicate", "waiter")

    def __init__(self, predicate: Predicate, waiter: asyncio.Future[None]) -> None:
        self.predicate = predicate
        self.waiter = waiter
        self.context = contextvars.copy_context()


class Conditions:
    """Who waits for a predicate, in the order in which they began.

    Predicates are looked at when nothing else is ready: one look covers all that an input has changed, however much
    that was. Only one waiter goes on at a time, so that its predicate still holds when its code runs; what it changes
    is seen by the others. Everybody is asked again until none goes on.
    """

    __slots__ = ("_loop", "_recorder", "_turn", "_waiting")

    def __init__(self, loop: DeterministicLoop, recorder: Recorder) -> None:
        self._loop = loop
        self._recorder = recorder
        self._waiting: list[Condition] = []
        self._turn = 0  # whose predicate is the next to be looked at

    async def wait(self, predicate: Predicate, timeout: timedelta | float | None, label: str) -> None:
        """Return as soon as ``predicate()`` is true. Raises ``TimeoutError``, or what the predicate raises."""
        self._loop.gate()
        if self._loop.evicted:
            await self._loop.create_future()
        self._recorder.check()
        if inspect.iscoroutinefunction(predicate) or not callable(predicate):
            raise DefinitionError(
                f"ctx.wait_until() needs a plain function without arguments, such as lambda: len(approvals) >= 2, "
                f"not {predicate!r}. To wait for something awaitable, await it, in asyncio.wait_for() for a time limit."
            )
        if not self._look(predicate):
            await self._until(predicate, timeout, label)

    async def _until(self, predicate: Predicate, timeout: timedelta | float | None, label: str) -> None:
        condition = Condition(predicate, asyncio.Future(loop=self._loop))
        timer = None
        if timeout is not None:
            timer = self._loop.start_after(timeout, self._time_out, condition, timeout, label=label)
        self._waiting.append(condition)
        try:
            await condition.waiter
        except BaseException:
            self._leave(condition)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def wake(self) -> bool:
        """Let the next one go on whose predicate holds; False if there is none."""
        waiting, looked = self._waiting, 0
        while looked < len(waiting):
            self._turn %= len(waiting)
            condition = waiting[self._turn]
            if self._has_settled(condition):
                del waiting[self._turn]
                return True
            self._turn += 1
            looked += 1
        self._turn = 0
        return False

    def _has_settled(self, condition: Condition) -> bool:
        """Whether its waiter goes on: the predicate holds or raises."""
        if condition.waiter.done():  # its task was cancelled in the step before, and has not run yet
            return False
        try:
            if not condition.context.run(self._look, condition.predicate):
                return False
            condition.waiter.set_result(None)
        except WorkflowSuspended:
            raise
        except StopIteration as error:  # which no future takes
            condition.waiter.set_exception(RuntimeError(f"The predicate raised {error!r}."))
        except (SystemExit, KeyboardInterrupt) as error:
            self._recorder.verdict = error
        except BaseException as error:
            condition.waiter.set_exception(error)
        return True

    def _look(self, predicate: Predicate) -> bool:
        self._recorder.reading = True
        try:
            value = predicate()
        finally:
            self._recorder.reading = False
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise DefinitionError("The predicate of ctx.wait_until() gives something to await; it must say yes or no.")
        return bool(value)

    def _time_out(self, condition: Condition, timeout: timedelta | float) -> None:
        """One more look: the passing of the time may be what the predicate is about."""
        if condition.waiter.done():
            return
        self._leave(condition)
        if not self._has_settled(condition):
            condition.waiter.set_exception(TimeoutError(f"The condition did not hold within {timeout}."))

    def _leave(self, condition: Condition) -> None:
        if condition in self._waiting:
            self._waiting.remove(condition)

    # Looking from outside

    def describe(self, future: asyncio.Future[Any]) -> str | None:
        """What a wait for ``future`` is, if it is one for a condition."""
        found = next((one for one in self._waiting if one.waiter is future), None)
        if found is None:
            return None
        name = getattr(found.predicate, "__qualname__", type(found.predicate).__qualname__)
        place = lines.of_function(found.predicate)
        return f"the condition {name}{f' ({place})' if place else ''}"

    def clear(self) -> None:
        self._waiting.clear()
