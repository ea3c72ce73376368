"""Compensations: what undoes the steps of a workflow, if it comes to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NamedTuple

from django_durable.definitions.activity import ActivityDefinition
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine import continuing, faults, scopes
from django_durable.engine.calling import Calling, name_of
from django_durable.engine.continuing import Continuing
from django_durable.engine.handlers import Handlers
from django_durable.engine.log import WorkflowLog
from django_durable.engine.loop import DeterministicLoop
from django_durable.engine.recorder import Recorder
from django_durable.exceptions import DefinitionError, WorkflowSuspended


class Compensation(NamedTuple):
    """An activity, a workflow or an async function, and what to call it with."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Compensations:
    """Those of a run, in the order of registration. They are carried out in reverse, each once."""

    __slots__ = (
        "_blocks",
        "_calling",
        "_continuing",
        "_handlers",
        "_log",
        "_loop",
        "_recorder",
        "_registered",
        "in_parallel",
    )

    def __init__(
        self,
        loop: DeterministicLoop,
        recorder: Recorder,
        *,
        calling: Calling,
        handlers: Handlers,
        continuing: Continuing,
        log: WorkflowLog,
        blocks: bool = False,
    ) -> None:
        """``blocks``: a fault of the code does not end the run, so nothing is undone for it."""
        self.in_parallel = False
        self._registered: list[Compensation] = []
        self._loop = loop
        self._recorder = recorder
        self._calling = calling
        self._handlers = handlers
        self._continuing = continuing
        self._log = log
        self._blocks = blocks

    def add(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises ``TypeError`` or ``PayloadError`` at once for arguments that do not fit an activity or a workflow."""
        self._loop.gate()
        self._recorder.check()
        if isinstance(function, ActivityDefinition | WorkflowDefinition):
            function.encode_input(args, kwargs)
        elif not callable(function):
            raise DefinitionError(
                f"ctx.compensate() needs an activity, a workflow or an async function and its arguments, not "
                f"{function!r}. It is called later, so give ctx.compensate(refund, receipt), not refund(receipt)."
            )
        self._registered.append(Compensation(function, args, kwargs))

    def guard(self, body: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        """``body``, after which what it has done is undone if it raises or is cancelled."""
        return self._guarded(body)

    async def _guarded(self, body: Coroutine[Any, Any, Any]) -> Any:
        try:
            result = await body
            if self._registered:
                await self._handlers_succeed()
            return result
        except (WorkflowSuspended, GeneratorExit):
            raise
        except BaseException as error:
            if self._undoes(error):
                for failure in await self._shielded():
                    error.add_note(f"Compensation {failure[0]} failed: {type(failure[1]).__name__}: {failure[1]}")
            raise

    def _undoes(self, error: BaseException) -> bool:
        if not self._registered or continuing.input_in(error) is not None:
            return False
        return self._recorder.replaying or not (self._blocks and faults.is_fault(error))

    async def _handlers_succeed(self) -> None:
        """A handler that fails fails the run: then what the body has done is undone as well."""
        if self._handlers.open and not self._continuing.was_asked_by(asyncio.current_task(self._loop)):
            await self._handlers.finished()

    async def run(self) -> None:
        """Undo everything now. Raises ``ExceptionGroup`` if some of it fails, after all has been tried."""
        self._loop.gate()
        self._recorder.check()
        failures = await self._shielded(cancellable=True)
        if failures:
            count = f"{len(failures)} compensation{'s' if len(failures) > 1 else ''} failed"
            raise ExceptionGroup(count, [error for _, error in failures])

    async def _shielded(self, *, cancellable: bool = False) -> list[tuple[str, Exception]]:
        """Undo in a task of its own, which no request to cancel reaches; ``cancellable``: it is raised afterwards."""
        cancelled: asyncio.CancelledError | None = None
        task = self._loop.create_task(self._unwind(), name="compensation")
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None and cancellable:
            raise cancelled
        failures: list[tuple[str, Exception]] = task.result()
        return failures

    async def _unwind(self) -> list[tuple[str, Exception]]:
        with scopes.Scope(scopes.COMPENSATION):
            if self.in_parallel:
                return await self._all_at_once()
            failures: list[tuple[str, Exception]] = []
            while self._registered:  # one may register another
                failures += await self._one(self._registered.pop())
            return failures

    async def _all_at_once(self) -> list[tuple[str, Exception]]:
        failures: list[tuple[str, Exception]] = []
        while self._registered:
            several, self._registered = self._registered[::-1], []
            for failed in await asyncio.gather(*map(self._one, several)):
                failures += failed
        return failures

    async def _one(self, compensation: Compensation) -> list[tuple[str, Exception]]:
        name = name_of(compensation.function)
        try:
            await self._calling.call(*compensation)
        except asyncio.CancelledError as error:  # nobody else can have: it has cancelled itself
            return self._failed(name, RuntimeError(f"it was cancelled: {error}"))
        except Exception as error:
            return self._failed(name, error)
        return []

    def _failed(self, name: str, error: Exception) -> list[tuple[str, Exception]]:
        self._log.error("Compensation %s failed: %s: %s", name, type(error).__name__, error)
        return [(name, error)]

    def clear(self) -> None:
        self._registered.clear()
