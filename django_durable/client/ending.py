"""Ending workflows from outside: by asking (cancel) or at once (terminate)."""

from __future__ import annotations

import time
from functools import partial
from uuid import UUID

import msgspec
from django.db import IntegrityError

from django_durable import instrumentation
from django_durable.client import messaging
from django_durable.exceptions import DurableError, WorkflowNotFound
from django_durable.history import events, messages
from django_durable.history.failures import Failure
from django_durable.history.status import Status
from django_durable.store import database, dispatch, outside, runs

TERMINATE_PATIENCE = 10.0  # seconds to wait for callers that keep the workflow's row locked
TERMINATE_STEP = 0.02


def cancel_workflow(workflow_id: str, reason: str = "", *, run_id: UUID | None = None) -> bool:
    """Ask the open run to end: ``asyncio.CancelledError`` is raised where its code waits, so that it can clean up.

    A run that is delayed and has not begun ends at once. False: it had ended already. Raises ``WorkflowNotFound``.
    """
    if _cancel_delayed(workflow_id, reason, run_id):
        return True
    return messaging.send(workflow_id, messages.Cancel(reason=reason), run_id=run_id, holds=(dispatch.DELAYED,))


def _cancel_delayed(workflow_id: str, reason: str, run_id: UUID | None) -> bool:
    """Without its code there is nothing to ask. False: it has begun, or others keep its row locked."""
    chain_id = runs.open_chain(workflow_id, run_id=run_id)
    if chain_id is None or not dispatch.is_delayed(chain_id):
        return False
    with database.writing():
        ended = outside.cancel_delayed(chain_id, reason)
    if ended is not None:
        _tell(workflow_id, ended, Status.CANCELLED)
    return ended is not None


def terminate_workflow(workflow_id: str, reason: str = "", *, run_id: UUID | None = None) -> bool:
    """End the open run at once; none of its code runs any more. False: it had ended already.

    Raises ``WorkflowNotFound``, and ``DurableError`` if other transactions keep its row locked for ten seconds.
    """
    deadline = time.monotonic() + TERMINATE_PATIENCE
    while True:
        chain_id = runs.open_chain(workflow_id, run_id=run_id)
        if chain_id is None:
            if runs.latest(workflow_id) is None:
                raise WorkflowNotFound(f"There is no workflow {workflow_id!r}.")
            return False
        failure = Failure(type="Terminated", message=reason or "Terminated from outside.")
        try:
            with database.writing():
                ended = runs.terminate(
                    chain_id, events.RunTerminated(reason=reason), msgspec.json.encode(failure).decode()
                )
        except IntegrityError:
            ended = None  # its owner wrote an event at that place first
        if ended is not None:
            _tell(workflow_id, ended, Status.TERMINATED)
            return True
        if time.monotonic() > deadline:
            raise DurableError(
                f"Workflow {workflow_id!r} could not be terminated: open transactions that have sent it messages "
                "keep its row locked. Try again once they have ended."
            )
        time.sleep(TERMINATE_STEP)


def _tell(workflow_id: str, run_id: UUID, status: Status) -> None:
    told = {"workflow_id": workflow_id, "run_id": run_id, "status": status}
    name, chain_id, parent = runs.rows().values_list("name", "chain_id", "parent_chain_id").get(pk=run_id)
    if parent is not None:
        database.on_commit(partial(messaging.hint, parent))
    database.on_commit(partial(messaging.close_children, [chain_id]))
    database.on_commit(partial(instrumentation.send, instrumentation.run_closed, name=name, **told))
