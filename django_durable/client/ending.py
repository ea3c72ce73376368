"""Ending workflows from outside: by asking (cancel) or at once (terminate)."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from functools import partial
from uuid import UUID

import msgspec
from django.db import IntegrityError

from django_durable import instrumentation, transports
from django_durable.client import finding, messaging, surroundings
from django_durable.exceptions import DurableError
from django_durable.history import events, messages
from django_durable.history.failures import Failure
from django_durable.history.status import Status
from django_durable.models import WorkflowRun
from django_durable.payloads import payload
from django_durable.store import database, dispatch, outages, outside, queues, runs

TERMINATE_PATIENCE = 10.0  # seconds to wait for callers that keep the workflow's row locked
TERMINATE_STEP = 0.02


def cancel_workflow(workflow_id: str, reason: str = "", *, run_id: UUID | None = None) -> bool:
    """Ask the open run to end: ``asyncio.CancelledError`` is raised where its code waits, so that it can clean up.

    A run that still waits for more than a worker to begin ends at once. False: it had ended already. Raises
    ``WorkflowNotFound``, and ``ForeignTransaction`` inside a transaction on another database.
    """
    surroundings.check("cancel_workflow()")
    chain_id = runs.open_chain(workflow_id, run_id=run_id)
    if chain_id is not None and cancel_unbegun([chain_id], reason):
        return True
    return messaging.send(workflow_id, messages.Cancel(reason=reason), run_id=run_id, holds=(dispatch.DELAYED,))


@outages.begins_anew
def cancel_unbegun(chain_ids: Collection[UUID], reason: str) -> Collection[UUID]:
    """End runs that wait to begin, whose code there is nothing to ask of; returns those that have ended.

    The others are about to begin or have begun, or somebody keeps their rows locked.
    """
    unbegun = outside.waiting_to_begin(chain_ids)
    if not unbegun:
        return ()
    with database.writing():
        ended = outside.cancel_unbegun(unbegun, reason)
        tell(ended)
    return ended.keys()


@outages.begins_anew
def terminate_workflow(workflow_id: str, reason: str = "", *, run_id: UUID | None = None) -> bool:
    """End the open run at once; none of its code runs any more. False: it had ended already.

    Raises ``WorkflowNotFound``, ``ForeignTransaction`` inside a transaction on another database, and ``DurableError``
    if other transactions keep its row locked for ten seconds.
    """
    surroundings.check("terminate_workflow()")
    deadline = time.monotonic() + TERMINATE_PATIENCE
    while True:
        chain_id = runs.open_chain(workflow_id, run_id=run_id)
        if chain_id is None:
            finding.check(workflow_id)
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
            tell({ended: Status.TERMINATED})
            return True
        if time.monotonic() > deadline:
            raise DurableError(
                f"Workflow {workflow_id!r} could not be terminated: open transactions that have sent it messages "
                "keep its row locked. Try again once they have ended."
            )
        time.sleep(TERMINATE_STEP)


def tell(ended: Mapping[UUID, Status]) -> None:
    """Once this is committed, tell whom it concerns that these runs have ended."""
    if not ended:
        return
    told = list(runs.rows().filter(pk__in=ended))
    parents = {run.parent_chain_id for run in told if run.parent_chain_id is not None}
    database.on_commit(partial(messaging.hint_all, parents))
    database.on_commit(partial(messaging.close_children, [run.chain_id for run in told]))
    for queue in {run.queue for run in told} & queues.read().keys():  # which may let in another one now
        database.on_commit(partial(transports.hint_work, queue))
    for run in told:
        announce(run, ended[run.pk])


def announce(run: WorkflowRun, status: Status) -> None:
    """Once this is committed, tell that ``run``, as it was read, has ended."""
    told = {
        "workflow_id": run.workflow_id,
        "run_id": run.pk,
        "name": run.name,
        "queue": run.queue,
        "status": status,
        "started_at": run.started_at,
        "closed_at": run.closed_at,
        "headers": payload.load(run.headers) if run.headers is not None else None,
        "failure": run.failure,
    }
    database.on_commit(partial(instrumentation.send, instrumentation.run_closed, **told))
