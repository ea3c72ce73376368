"""The child workflows of a run."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Generator
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

from django_durable.definitions.signal import SignalDefinition, SignalMessage
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine.commands import CancelChild, ScheduleChild
from django_durable.engine.externals import Externals
from django_durable.engine.loop import DeterministicLoop
from django_durable.engine.promises import Promise
from django_durable.engine.recorder import Recorder
from django_durable.exceptions import DefinitionError
from django_durable.history import events, failures
from django_durable.history.failures import Failure
from django_durable.payloads.payload import Payload

R = TypeVar("R")


class Child:
    """A child that was asked for. ``started``: it runs, or could not be started; ``result``: it has ended."""

    __slots__ = ("cancel_reason", "command", "result", "started", "ticket")

    def __init__(self, command: ScheduleChild, loop: DeterministicLoop) -> None:
        self.command = command
        self.started = Promise(loop)
        self.result = Promise(loop)
        self.ticket = 0
        self.cancel_reason: str | None = None  # once it was to be cancelled

    def fail(self, failure: Failure, status: str) -> None:
        outcome = partial(self._raise, failure, status)
        self.started.keep(outcome)
        self.result.keep(outcome)

    def _raise(self, failure: Failure, status: str) -> None:
        name = self.command.definition.name
        raise failures.child_error(name, failure, status=status, workflow_id=self.command.workflow_id)


class ChildHandle(Generic[R]):
    """A child workflow that was started. Awaiting it gives its result, as often as one likes.

    Awaiting raises ``ChildWorkflowError`` if the child ends without a result. If the awaiting task is cancelled, the
    child is dealt with as its option ``cancellation`` says.
    """

    __slots__ = ("_child", "_children")

    def __init__(self, children: Children, child: Child) -> None:
        self._children = children
        self._child = child

    def __await__(self) -> Generator[Any, Any, R]:
        return self._children.result_of(self._child).__await__()

    def __repr__(self) -> str:
        return f"<child workflow {self.workflow_id}>"

    @property
    def workflow_id(self) -> str:
        return self._child.command.workflow_id

    @property
    def run_id(self) -> UUID:
        """The id of its first run."""
        return self._child.command.run_id

    async def signal(self, signal: str | SignalDefinition[Any] | SignalMessage, payload: Any = None) -> None:
        """Send it a signal; returns once that is in its inbox. Raises ``FailureError`` if it has ended."""
        await self._children.externals.signal(self.workflow_id, signal, payload, chain_id=self.run_id)

    async def cancel(self, reason: str = "") -> None:
        """Ask it to end. What becomes of that is seen by awaiting it; one that has ended is left alone."""
        self._children.cancel(self._child, reason)


class Children:
    """``pending`` holds the children that have not ended, by the sequence of their ChildScheduled."""

    __slots__ = (
        "_key",
        "_loop",
        "_recorder",
        "_source",
        "any",
        "externals",
        "pending",
        "unstarted",
    )

    def __init__(
        self, loop: DeterministicLoop, recorder: Recorder, externals: Externals, *, key: str, source: str
    ) -> None:
        """``key`` begins the idempotency keys that are made here, ``source`` makes the ids of children unlike others'.

        Ids must be the same in a replay, whatever the order in which a drain asks for its children: so they come from
        what is asked for, not from a sequence.
        """
        self.pending: dict[int, Child] = {}
        self.unstarted: set[int] = set()
        """Those with an id of their own of which it is not known yet whether they could be started."""
        self.externals = externals
        self.any = False
        """Whether there ever was one."""
        self._loop = loop
        self._recorder = recorder
        self._key = key
        self._source = source

    def rekey(self, key: str, *, source: str) -> None:
        """What the keys and ids are made from that are made from now on."""
        self._key, self._source = key, source

    # What the workflow does

    async def run(self, definition: WorkflowDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        child = await self._ask(definition, args, kwargs)
        return await self.result_of(child)

    async def start(
        self, definition: WorkflowDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ChildHandle[Any]:
        child = await self._ask(definition, args, kwargs)
        if child.command.explicit:
            try:
                await child.started.wait()
            except asyncio.CancelledError:
                if definition.options.cancellation != "abandon":
                    self.cancel(child)
                raise
            child.started.value()
        return ChildHandle(self, child)

    async def result_of(self, child: Child) -> Any:
        """Wait for the end. Raises ``ChildWorkflowError`` if there is no result."""
        try:
            await child.result.wait()
        except asyncio.CancelledError as error:
            await self._give_up(child, str(error.args[0]) if error.args and error.args[0] else "")
            raise
        return child.result.value()

    async def _give_up(self, child: Child, reason: str) -> None:
        how = child.command.definition.options.cancellation
        if how != "abandon":
            self.cancel(child, reason)
        if how == "wait":
            await child.result.wait()

    def cancel(self, child: Child, reason: str = "") -> None:
        """Ask a child to end; one whose start is under way is asked once it has begun."""
        if self._loop.evicted or child.result.is_kept:
            return
        self._recorder.check()
        if self._recorder.withdraw(child.ticket):  # asked for in this very drain: it never starts
            child.fail(Failure(type="CancelledError", message=reason), "cancelled")
        elif child.cancel_reason is None:
            child.cancel_reason = reason
            if child.started.is_kept:
                self._request_cancel(child)

    def _request_cancel(self, child: Child) -> None:
        self._recorder.issue(
            CancelChild(child=child.command.sequence, reason=child.cancel_reason or "", chain_id=child.command.run_id)
        )

    async def _ask(
        self, definition: WorkflowDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Child:
        if self._loop.evicted:
            await self._loop.create_future()
        self._recorder.check()
        _check(definition)
        input = definition.encode_input(args, kwargs)
        explicit = definition.options.workflow_id
        run_id = self._new_id(definition.name, input)
        command = ScheduleChild(
            definition=definition,
            input=input,
            workflow_id=explicit or str(run_id),
            run_id=run_id,
            explicit=definition.options.may_collide,
        )
        child = Child(command, self._loop)
        child.ticket = self._recorder.issue(command, child)
        if not command.explicit:
            child.started.keep(_nothing)
        self.any = True
        return child

    def _new_id(self, name: str, input: Payload) -> UUID:
        """A UUID of version 7 whose random part is a digest of what it is for."""
        what = f"{self._source} {self._recorder.input} {name} ".encode() + bytes(input.data)
        digest = hashlib.blake2b(what, digest_size=10, salt=self._recorder.count(what).to_bytes(16, "big"))
        random = int.from_bytes(digest.digest(), "big")
        milliseconds = int(self._loop.now.timestamp() * 1000) & ((1 << 48) - 1)
        high, low = random >> 62 & 0xFFF, random & ((1 << 62) - 1)
        return UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 0b10 << 62 | low)

    # What happens to it

    def keep(self, child: Child, recorded: events.Event | None) -> None:
        """Its command has got a sequence: newly, or that of the event ``recorded``."""
        command = child.command
        if isinstance(recorded, events.ChildScheduled):
            command.key, command.workflow_id, command.run_id = recorded.key, recorded.workflow_id, recorded.run_id
            if command.explicit and not recorded.explicit:
                child.started.keep(_nothing)
            command.explicit = recorded.explicit
        else:
            command.key = f"{self._key}-{command.sequence}"
        self.pending[command.sequence] = child
        if not child.started.is_kept:
            self.unstarted.add(command.sequence)

    def begun(self, event: events.ChildStarted) -> None:
        child = self.pending[event.child]
        self.unstarted.discard(event.child)
        child.started.keep(_nothing)
        if child.cancel_reason is not None:
            self._request_cancel(child)

    def not_begun(self, event: events.ChildStartFailed) -> None:
        self._pop(event.child).fail(event.failure, "")

    def complete(self, event: events.ChildCompleted) -> None:
        child = self._pop(event.child)
        child.started.keep(_nothing)
        child.result.keep(partial(child.command.definition.decode_result, event.result))

    def fail(self, event: events.ChildFailed) -> None:
        child = self._pop(event.child)
        child.started.keep(_nothing)
        child.fail(event.failure, event.status)

    def _pop(self, sequence: int) -> Child:
        self.unstarted.discard(sequence)
        return self.pending.pop(sequence)

    def describe(self, future: asyncio.Future[Any]) -> str | None:
        """What a wait for ``future`` is, if it is one for a child."""
        for child in self.pending.values():
            if child.result.is_awaited_by(future) or child.started.is_awaited_by(future):
                return f"child workflow {child.command.definition.name} {child.command.workflow_id}"
        return None

    def clear(self) -> None:
        self.pending.clear()


def _nothing() -> None:
    return None


def _check(definition: WorkflowDefinition[..., Any]) -> None:
    if definition.options.on_conflict == "use_existing":
        raise DefinitionError(
            f"Workflow {definition.name}: a child is a run of its own, so on_conflict='use_existing' means nothing for "
            "it. Use ctx.get_workflow(id) to reach a workflow that runs already."
        )
    if definition.options.debounce is not None:
        raise DefinitionError(
            f"Workflow {definition.name}: a child is a run of its own, so debounce means nothing for it. Start it from "
            "an activity, by durable.start_workflow(...), if starts are to be put together."
        )
