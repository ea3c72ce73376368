"""Other workflows that a run sends messages to."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from uuid import UUID

from django_durable.definitions.signal import SignalDefinition, SignalMessage, as_message
from django_durable.engine.commands import CancelExternal, SignalExternal
from django_durable.engine.loop import DeterministicLoop
from django_durable.engine.promises import Promise
from django_durable.engine.recorder import Recorder
from django_durable.history import events, failures
from django_durable.history.failures import Failure


class ExternalWorkflow:
    """Any workflow, by its id: it need neither be a child nor exist yet."""

    __slots__ = ("_externals", "workflow_id")

    def __init__(self, externals: Externals, workflow_id: str) -> None:
        self._externals = externals
        self.workflow_id = workflow_id

    def __repr__(self) -> str:
        return f"<external workflow {self.workflow_id}>"

    async def signal(self, signal: str | SignalDefinition[Any] | SignalMessage, payload: Any = None) -> None:
        """Send a signal to its open run; returns once that is in its inbox.

        Raises ``FailureError``, of type ``WorkflowNotFound`` or ``WorkflowClosed``, if there is no open run.
        """
        await self._externals.signal(self.workflow_id, signal, payload)

    async def cancel(self, reason: str = "") -> None:
        """Ask its open run to end; returns once the request is in its inbox. Raises what ``signal`` raises."""
        await self._externals.cancel(self.workflow_id, reason)


class Request:
    """A message that is to be sent, and whether it was."""

    __slots__ = ("answer", "command", "ticket")

    def __init__(self, command: SignalExternal | CancelExternal, loop: DeterministicLoop) -> None:
        self.command = command
        self.answer = Promise(loop)
        self.ticket = 0


class Externals:
    """``pending`` holds the requests that have no answer yet, by the sequence of their events."""

    __slots__ = ("_key", "_loop", "_recorder", "pending")

    def __init__(self, loop: DeterministicLoop, recorder: Recorder, *, key: str) -> None:
        self.pending: dict[int, Request] = {}
        self._loop = loop
        self._recorder = recorder
        self._key = key

    def rekey(self, key: str) -> None:
        """``key`` begins the keys that are made from now on."""
        self._key = key

    async def signal(
        self,
        workflow_id: str,
        signal: str | SignalDefinition[Any] | SignalMessage,
        payload: Any,
        *,
        chain_id: UUID | None = None,
    ) -> None:
        message = as_message(signal, payload)
        await self._send(
            SignalExternal(workflow_id=workflow_id, chain_id=chain_id, name=message.name, payload=message.payload)
        )

    async def cancel(self, workflow_id: str, reason: str) -> None:
        await self._send(CancelExternal(workflow_id=workflow_id, reason=reason))

    async def _send(self, command: SignalExternal | CancelExternal) -> None:
        if self._loop.evicted:
            await self._loop.create_future()
        request = Request(command, self._loop)
        request.ticket = self._recorder.issue(command, request)
        try:
            await request.answer.wait()
        except asyncio.CancelledError:
            if not self._loop.evicted:
                self._recorder.withdraw(request.ticket)
            raise
        request.answer.value()

    def keep(self, request: Request, recorded: events.Event | None) -> None:
        """Its command has got a sequence: newly, or that of the event ``recorded``."""
        command = request.command
        if isinstance(recorded, events.ExternalSignalRequested | events.ExternalCancelRequested):
            command.key = recorded.key
        else:
            command.key = f"{self._key}-{command.sequence}"
        self.pending[command.sequence] = request

    def delivered(self, event: events.ExternalDelivered) -> None:
        self.pending.pop(event.request).answer.keep(_nothing)

    def failed(self, event: events.ExternalFailed) -> None:
        self.pending.pop(event.request).answer.keep(partial(_raise, event.failure))

    def describe(self, future: asyncio.Future[Any]) -> str | None:
        """What a wait for ``future`` is, if it is one for the delivery of a message."""
        for request in self.pending.values():
            if request.answer.is_awaited_by(future):
                return f"message to workflow {request.command.workflow_id}"
        return None

    def clear(self) -> None:
        self.pending.clear()


def _nothing() -> None:
    return None


def _raise(failure: Failure) -> None:
    raise failures.to_exception(failure)
