"""What a start returns: a workflow to ask, signal, wait for and end."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Generic, TypeVar, Unpack, cast
from uuid import UUID

from asgiref.sync import sync_to_async

from django_durable.client import (
    ending,
    finding,
    messaging,
    pausing,
    querying,
    reading,
    resetting,
    surroundings,
    updating,
    waiting,
)
from django_durable.definitions import update as updates
from django_durable.definitions.registry import registry
from django_durable.definitions.signal import SignalDefinition, SignalMessage, as_message
from django_durable.definitions.update import UpdateChanges, UpdateDefinition, UpdateMessage, UpdateOptions
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine.stack import StackEntry
from django_durable.exceptions import (
    UnknownDefinition,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowNotFound,
    WorkflowTerminated,
    WorkflowTimedOut,
    WorkflowUnsuccessful,
)
from django_durable.history import failures
from django_durable.history.status import CLOSED, Status
from django_durable.models import WorkflowRun
from django_durable.payloads import payload
from django_durable.store import runs

R = TypeVar("R")

UNSUCCESSFUL: dict[Status, type[WorkflowUnsuccessful]] = {
    Status.CANCELLED: WorkflowCancelled,
    Status.TERMINATED: WorkflowTerminated,
    Status.TIMED_OUT: WorkflowTimedOut,
}


class WorkflowHandle(Generic[R]):
    """A workflow by its ids. Cheap: nothing is read until a method asks.

    It means the whole chain of runs that ``run_id`` belongs to, and no later start of the same workflow id. Handles of
    the same ids are equal.
    """

    __slots__ = ("_definition", "_update_options", "run_id", "workflow_id")

    def __init__(self, workflow_id: str, run_id: UUID, definition: WorkflowDefinition[..., Any] | None = None) -> None:
        self.workflow_id = workflow_id
        self.run_id = run_id
        self._definition = definition
        self._update_options = UpdateOptions()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WorkflowHandle):
            return NotImplemented
        return (self.workflow_id, self.run_id) == (other.workflow_id, other.run_id)

    def __hash__(self) -> int:
        return hash((self.workflow_id, self.run_id))

    def __repr__(self) -> str:
        return f"<WorkflowHandle {self.workflow_id} run {self.run_id}>"

    def status(self) -> reading.WorkflowStatus:
        """How the workflow is: the latest run of the chain that began with this one, or that it belongs to.

        With ``DURABLE["STATUS_CACHE"]`` it may be a few seconds old.
        """
        return reading.status_of_chain(self.workflow_id, self.run_id) or reading.status_of(self._run())

    def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait for the end of the chain and return the workflow's result.

        ``timeout`` is a timedelta or in seconds; ``TimeoutError`` when it passes. Raises ``WorkflowFailed``,
        ``WorkflowCancelled``, ``WorkflowTerminated`` or ``WorkflowTimedOut`` if there is no result, and
        ``WouldWaitForever`` inside an open transaction.
        """
        look = _Look(self.workflow_id, self.run_id)
        for pause in look.pauses(timeout):
            time.sleep(pause)
        return self._result(look)

    async def aresult(self, timeout: float | timedelta | None = None) -> R:
        """``result`` for async code. No thread waits meanwhile."""
        look = _Look(self.workflow_id, self.run_id)
        pauses = look.pauses(timeout)
        while (pause := await sync_to_async(lambda: next(pauses, None))()) is not None:
            await asyncio.sleep(pause)
        return await sync_to_async(self._result)(look)

    def signal(self, signal: str | SignalDefinition[Any] | SignalMessage, payload: Any = None) -> None:
        """Send a signal to this workflow. Raises ``WorkflowClosed`` if it has ended."""
        messaging.signal_workflow(self.workflow_id, as_message(signal, payload), run_id=self.run_id)

    def using(self, **options: Unpack[UpdateChanges]) -> WorkflowHandle[R]:
        """A copy of this handle with other options for its ``update``; what is not given stays as it is.

        ``update_id``: an update that is sent again with the same id is carried out once, and answered the same.
        ``timeout``: how long to wait for the reply, a timedelta or seconds. ``wait``: ``"completed"``, or
        ``"accepted"`` to wait only until the workflow has accepted the update.
        """
        changed = copy.copy(self)
        changed._update_options = updates.changed_options(self._update_options, options)
        return changed

    def update(self, update: str | UpdateDefinition | UpdateMessage, /, *args: Any, **kwargs: Any) -> Any:
        """Have the workflow carry out an update, and return its reply, as plain JSON values.

        Raises ``UpdateRejected`` if the workflow refuses it, ``UpdateFailed`` if its handler raises,
        ``WorkflowClosed`` if the workflow has ended or ends first, ``TimeoutError`` once ``using(timeout=...)`` has
        passed, ``WouldWaitForever`` inside an open transaction. Returns None if only acceptance was waited for.
        """
        message = updates.as_message(update, args, kwargs)
        return updating.update_workflow(self.workflow_id, message, self._update_options, run_id=self.run_id)

    async def aupdate(self, update: str | UpdateDefinition | UpdateMessage, /, *args: Any, **kwargs: Any) -> Any:
        """``update`` for async code. No thread waits meanwhile."""
        message = updates.as_message(update, args, kwargs)
        return await updating.aupdate_workflow(self.workflow_id, message, self._update_options, run_id=self.run_id)

    def query(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Ask the workflow; its history is replayed here, so no worker is needed, open or closed.

        Raises ``QueryFailed`` if it has no handler of that name, or the handler raises; ``NonDeterminismError`` if
        the code of this process does not repeat the history; ``WouldWaitForever`` inside an open transaction.
        """
        return querying.query(self._run(), name, args, kwargs)

    def stack(self) -> list[StackEntry]:
        """Where each task of the workflow waits, and what for; found by a replay here. Empty once it has ended."""
        return querying.stack(self._run())

    def cancel(self, reason: str = "") -> bool:
        """Ask the workflow to end. False: it had ended already."""
        return ending.cancel_workflow(self.workflow_id, reason, run_id=self.run_id)

    def terminate(self, reason: str = "") -> bool:
        """End the workflow at once, without a chance to clean up. False: it had ended already."""
        return ending.terminate_workflow(self.workflow_id, reason, run_id=self.run_id)

    def pause(self, reason: str = "") -> bool:
        """Let the workflow rest: messages are kept for it, and nothing is applied until ``resume``.

        Activities that run end, and their results wait; time limits of the run go on. False: it had ended already.
        """
        return pausing.pause_workflow(self.workflow_id, reason, run_id=self.run_id)

    def resume(self) -> bool:
        """Let the paused workflow go on. False: it was not paused, or has ended."""
        return pausing.resume_workflow(self.workflow_id, run_id=self.run_id)

    def reset(self, *, to_event: int, reapply_signals: bool = True, reason: str = "") -> WorkflowHandle[R]:
        """Do this run once more from just before the step that holds the event ``to_event``; a handle of the new run.

        Everything before that step is copied and not done again. What came later is dropped, but for signals, unless
        ``reapply_signals`` is false, and for results of activities that were called before; if ``to_event`` is such a
        result itself, that activity is executed again. An open run ends as terminated. Raises
        ``WorkflowAlreadyStarted`` if this run has ended and the workflow id has an open run, ``DurableError`` if there
        is no such event.
        """
        run_id = resetting.reset_run(self.run_id, to_event, reapply_signals=reapply_signals, reason=reason)
        return WorkflowHandle(self.workflow_id, run_id, self._definition)

    def retry_failed(self, reason: str = "") -> WorkflowHandle[R]:
        """Let a workflow that has failed or timed out go on just before its failure; a handle of the new run.

        What failed is done again, with the code of today: the activity, with the same idempotency key, or the last
        step of the workflow's own code. Raises ``DurableError`` if it has not failed, ``WorkflowAlreadyStarted`` if
        its workflow id has an open run.
        """
        run_id = resetting.retry_run(self.run_id, reason)
        return WorkflowHandle(self.workflow_id, run_id, self._definition)

    def history(self) -> list[reading.HistoryEntry]:
        """The events of this run, in order."""
        return reading.history_of(self.run_id)

    astatus = sync_to_async(status)
    aquery = sync_to_async(query)
    astack = sync_to_async(stack)
    asignal = sync_to_async(signal)
    acancel = sync_to_async(cancel)
    aterminate = sync_to_async(terminate)
    apause = sync_to_async(pause)
    aresume = sync_to_async(resume)
    areset = sync_to_async(reset)
    aretry_failed = sync_to_async(retry_failed)
    ahistory = sync_to_async(history)

    def _run(self) -> WorkflowRun:
        surroundings.check_code("A look at a workflow")
        run = runs.latest_of_chain(self.run_id)
        if run is None:
            raise _not_found(self.workflow_id, self.run_id)
        return run

    def _result(self, look: _Look) -> R:
        seen = look.seen
        if seen is None or seen.status is not Status.COMPLETED:
            raise _unsuccessful(self._run())
        return cast("R", self._decode(seen))

    def _decode(self, seen: runs.ChainState) -> Any:
        stored = payload.load(seen.result or payload.dump(payload.NULL))
        definition = self._definition
        if definition is None:
            try:
                definition = registry.workflow(seen.name, seen.version)
            except UnknownDefinition:
                return reading.plain(seen.result)
        return definition.decode_result(stored)


class _Look:
    """Looks at a chain until it has ended. ``seen``: how it was at the latest look."""

    __slots__ = ("run_id", "seen", "workflow_id")

    def __init__(self, workflow_id: str, run_id: UUID) -> None:
        surroundings.check_code("result()")
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.seen: runs.ChainState | None = None

    def pauses(self, timeout: float | timedelta | None) -> Iterator[float]:
        """How many seconds to wait before the next look, until the chain has ended."""
        return waiting.pauses(
            "result()",
            self.workflow_id,
            self.run_id,
            has_come=self._has_ended,
            too_late=self._too_late,
            timeout=timeout,
        )

    def _has_ended(self) -> bool:
        self.seen = runs.chain_state(self.run_id)
        if self.seen is None:
            raise _not_found(self.workflow_id, self.run_id)
        return self.seen.status in CLOSED

    def _too_late(self, seconds: float) -> str:
        status = self.seen.status if self.seen is not None else "unknown"
        if runs.is_pending(self.run_id):
            status = "pending: no worker has begun it"
        return f"Workflow {self.workflow_id!r} had not ended after {seconds} s; it is {status}."


def _not_found(workflow_id: str, run_id: UUID) -> WorkflowNotFound:
    return WorkflowNotFound(f"There is no run {run_id} of workflow {workflow_id!r}.")


def get_workflow(workflow_id: str) -> WorkflowHandle[Any]:
    """A handle of the latest run of ``workflow_id``. Raises ``WorkflowNotFound``."""
    surroundings.check_code("get_workflow()")
    run = finding.latest(workflow_id)
    return WorkflowHandle(workflow_id, run.pk)


def _unsuccessful(run: WorkflowRun) -> WorkflowUnsuccessful:
    failure = reading.failure_of(run)
    status = Status(run.status)
    kind = UNSUCCESSFUL.get(status)
    if kind is not None:
        reason = f": {failure.message}" if failure and failure.message else ""
        how = "timed out" if status is Status.TIMED_OUT else f"was {status}"
        return kind(f"Workflow {run.workflow_id!r} {how}{reason}", workflow_id=run.workflow_id, run_id=run.pk)
    text = f"{failure.type}: {failure.message}" if failure else "no failure was recorded"
    error = WorkflowFailed(
        text,
        workflow_id=run.workflow_id,
        run_id=run.pk,
        type=failure.type if failure else "",
        traceback=failure.traceback if failure else "",
    )
    if failure is not None:
        error.message = failure.message
        error.__cause__ = failures.to_exception(failure)
    return error
