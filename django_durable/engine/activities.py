"""The activities that a workflow has called and that have no outcome yet."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

from django_durable.definitions.activity import ActivityDefinition
from django_durable.definitions.polling import Polling
from django_durable.engine import lines
from django_durable.engine.commands import CancelActivity, ScheduleActivity
from django_durable.engine.loop import DeterministicLoop
from django_durable.engine.pending import Pending
from django_durable.engine.recorder import Recorder
from django_durable.exceptions import ActivityError, PayloadError
from django_durable.history import events, failures

Call = Coroutine[Any, Any, Any]


class Activities:
    """``pending`` holds them by the sequence of their ActivityScheduled, in the order in which they were called.

    ``inherited``: keys of those that were pending when the run was reset, which are not of its own making.
    """

    __slots__ = ("_calls", "_key", "_loop", "_recorder", "_unstarted", "inherited", "pending")

    def __init__(self, loop: DeterministicLoop, recorder: Recorder, *, key: str) -> None:
        """``key`` begins the idempotency keys that are made here."""
        self.pending: dict[int, Pending] = {}
        self.inherited: set[str] = set()
        self._loop = loop
        self._recorder = recorder
        self._key = key
        self._calls = 0
        self._unstarted: dict[int, tuple[ActivityDefinition[Any, Any], Call]] = {}

    # What the workflow does

    def call(
        self,
        definition: ActivityDefinition[Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        polling: Polling[Any, Any] | None = None,
    ) -> Call:
        """A coroutine that runs the activity. It is kept until it starts, so that it is not collected anywhere."""
        self._loop.gate()
        self._calls += 1
        where = lines.here() if self._recorder.replaying else ""
        coroutine = self._call(self._calls, definition, args, kwargs, where, polling)
        self._unstarted[self._calls] = definition, coroutine
        return coroutine

    async def _call(
        self,
        ordinal: int,
        definition: ActivityDefinition[Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        where: str,
        polling: Polling[Any, Any] | None,
    ) -> Any:
        if self._loop.evicted:
            await self._loop.create_future()
        self._unstarted.pop(ordinal, None)
        pending = self._schedule(definition, args, kwargs, where, polling)
        try:
            return await pending.future
        except asyncio.CancelledError:
            await self._give_up(pending)
            raise

    def _schedule(
        self,
        definition: ActivityDefinition[Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        where: str,
        polling: Polling[Any, Any] | None,
    ) -> Pending:
        self._recorder.check()
        payload = definition.encode_input(args, kwargs)
        command = ScheduleActivity(definition=definition, input=payload, where=where, polling=polling)
        # Nobody but the task ever sees this future, so it needs no hash of ours, and asyncio has a shorter way for it.
        pending = Pending(command, asyncio.Future(loop=self._loop), self._loop.now)
        pending.ticket = self._recorder.issue(command, pending)
        return pending

    async def _give_up(self, pending: Pending) -> None:
        """Deal with a call whose task was cancelled, as its option says, or as it was dealt with before."""
        if self._loop.evicted or self._recorder.withdraw(pending.ticket):
            return
        sequence = pending.command.sequence
        if sequence not in self.pending:  # its outcome came in this very drain
            return
        options = pending.command.definition.options
        recorded = self._recorder.recorded_cancel(sequence)
        how = options.cancellation if recorded is None else "wait" if recorded.wait else "try"
        if how == "abandon":
            return
        wait = how == "wait"
        if not wait:
            del self.pending[sequence]
        self._recorder.issue(
            CancelActivity(activity=sequence, key=pending.command.key, atomic=options.atomic and not wait, wait=wait)
        )
        if wait:
            await self._end_of(pending)

    async def _end_of(self, pending: Pending) -> None:
        """Wait until the activity has answered, whatever that is."""
        pending.stopping = True
        pending.future = asyncio.Future(loop=self._loop)
        with contextlib.suppress(ActivityError, PayloadError):
            await pending.future

    def rekey(self, key: str) -> None:
        """``key`` begins the keys that are made from now on."""
        self._key = key
        self.inherited |= {pending.command.key for pending in self.pending.values()}

    def begin_again(self, event: events.RunReset, time: datetime) -> None:
        """The run was reset: these are executed once more, as if they had been asked for at ``time``."""
        for sequence in (*event.again, *event.interrupted):
            pending = self.pending.get(sequence)
            if pending is not None:
                pending.scheduled_at = time
                pending.again = "interrupted" if sequence in event.interrupted else "again"

    # What happens to it

    def keep(self, pending: Pending, recorded: events.Event | None) -> None:
        """Its command has got a sequence: newly, or that of the event ``recorded``."""
        command = pending.command
        if isinstance(recorded, events.ActivityScheduled):
            command.key, pending.worker, pending.epoch = recorded.key, recorded.worker, recorded.epoch
        else:
            command.key = f"{self._key}-{command.sequence}"
        self.pending[command.sequence] = pending

    def complete(self, event: events.ActivityCompleted) -> None:
        pending = self.pending.pop(event.activity)
        if pending.future.done():
            return
        try:
            pending.future.set_result(pending.command.definition.decode_result(event.result))
        except Exception as error:  # a stored result that does not fit today's annotation
            pending.future.set_exception(error)

    def fail(self, event: events.ActivityFailed) -> None:
        pending = self.pending.pop(event.activity)
        if not pending.future.done():
            pending.future.set_exception(
                failures.activity_error(
                    pending.command.definition.name,
                    event.failure,
                    attempts=event.attempts,
                    timeout=event.timeout,
                    interrupted=event.interrupted,
                )
            )

    # Looking

    def describe(self, future: asyncio.Future[Any]) -> str | None:
        """What a wait for ``future`` is, if it is one for an activity."""
        pending = self._awaited(future)
        if pending is None:
            return None
        definition = pending.command.definition
        return f"activity {definition.name}{f' ({definition.options.label})' if definition.options.label else ''}"

    def place(self, future: asyncio.Future[Any] | None) -> str:
        """``file:line`` that called the activity of ``future``, if it is known."""
        pending = self._awaited(future)
        return pending.command.where if pending else ""

    def _awaited(self, future: asyncio.Future[Any] | None) -> Pending | None:
        return next((pending for pending in self.pending.values() if pending.future is future), None)

    # Calls that never began

    def unstarted(self) -> list[str]:
        """Names of activities that were called and never awaited."""
        return [
            definition.name
            for definition, call in self._unstarted.values()
            if inspect.getcoroutinestate(call) == inspect.CORO_CREATED
        ]

    def clear(self) -> None:
        for _, call in self._unstarted.values():
            call.close()
        self._unstarted.clear()
        self.pending.clear()
