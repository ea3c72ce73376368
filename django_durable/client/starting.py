"""Starting workflows: plain rows in the caller's transaction, so both commit or neither does."""

from __future__ import annotations

import secrets
import sys
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any
from uuid import UUID

from django_durable import instrumentation, transports
from django_durable.client import ending, handle
from django_durable.definitions import stored_retry
from django_durable.definitions.workflow import WorkflowCall, WorkflowDefinition
from django_durable.exceptions import DurableError, WorkflowAlreadyStarted
from django_durable.history import events
from django_durable.history.status import Status
from django_durable.store import database, identifiers, runs, starts

START_TRIES = 5  # the run in the way may end between the insert and the look at it

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def start_workflow(
    definition: WorkflowDefinition[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    schedule: str | None = None,
) -> handle.WorkflowHandle[Any]:
    """Write a run into the caller's transaction and return its handle at once.

    Raises ``PayloadError`` or ``TypeError`` for arguments that do not fit, before anything is written, and
    ``WorkflowAlreadyStarted`` as the policies ``on_conflict`` and ``on_reuse`` say.
    """
    new = _new_run(definition, args, kwargs)._replace(schedule=schedule)
    run_id = _insert(new, definition)
    _announce(Counter({new.queue: 1}))
    return handle.WorkflowHandle(new.workflow_id, run_id, definition)


def start_workflows(calls: Iterable[WorkflowCall]) -> list[handle.WorkflowHandle[Any]]:
    """Start many runs in one transaction; the handles come in the order of the calls.

    Either all are started or, at the first that cannot be, none.
    """
    wanted = [(call.definition, _new_run(call.definition, call.args, call.kwargs)) for call in calls]
    started: dict[UUID, UUID] = {}
    with database.writing():
        plain = [new for definition, new in wanted if definition.options.workflow_id is None]
        starts.insert_many(plain)
        # In the order of the ids, so that two bulk starts cannot wait for each other.
        named = [pair for pair in wanted if pair[0].options.workflow_id is not None]
        for definition, new in sorted(named, key=lambda pair: pair[1].workflow_id):
            started[new.run_id] = _insert(new, definition)
    _announce(Counter(new.queue for _, new in wanted))
    return [
        handle.WorkflowHandle(new.workflow_id, started.get(new.run_id, new.run_id), definition)
        for definition, new in wanted
    ]


def _new_run(definition: WorkflowDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> starts.NewRun:
    options = definition.options
    run_id = identifiers.uuid7()
    return starts.NewRun(
        run_id=run_id,
        workflow_id=options.workflow_id or str(run_id),
        name=definition.name,
        version=definition.version,
        fingerprint=definition.fingerprint,
        definition=definition.key,
        queue=options.queue,
        priority=options.priority,
        delay=options.start_delay or None,
        start_at=options.start_at,
        execution_timeout=options.execution_timeout,
        run_timeout=options.run_timeout,
        retry=stored_retry.dump(options.retry) if options.retry is not None else None,
        started=events.RunStarted(
            input=definition.encode_input(args, kwargs), seed=secrets.randbits(63), python=PYTHON
        ),
    )


def _insert(new: starts.NewRun, definition: WorkflowDefinition[..., Any]) -> UUID:
    """Insert the run, or find the one that its policy accepts in its place; returns the run id."""
    for _ in range(START_TRIES):
        with database.writing():
            if starts.insert(new):
                if definition.options.workflow_id is not None:
                    _check_reuse(new, definition.options.on_reuse)
                return new.run_id
        taken = runs.open_run(new.workflow_id)
        if taken is None:
            continue
        match definition.options.on_conflict:
            case "use_existing":
                return taken
            case "terminate_existing":
                ending.terminate_workflow(new.workflow_id, "Replaced by a new run of the same workflow id.")
            case _:
                raise WorkflowAlreadyStarted(
                    f"Workflow {new.workflow_id!r} is running already (run {taken}). Use another workflow_id, or "
                    "on_conflict='use_existing' or 'terminate_existing'.",
                    workflow_id=new.workflow_id,
                    run_id=taken,
                )
    raise DurableError(f"Workflow {new.workflow_id!r} could not be started: its id keeps being taken and given up.")


def _check_reuse(new: starts.NewRun, on_reuse: str) -> None:
    """Raise, and so undo the insert, if the id's last run forbids another one."""
    if on_reuse == "allow":
        return
    before = runs.latest_closed_status(new.workflow_id, apart_from=new.run_id)
    if before is None or (on_reuse == "allow_if_failed" and before is not Status.COMPLETED):
        return
    raise WorkflowAlreadyStarted(
        f"Workflow {new.workflow_id!r} has run before (it is {before}), and on_reuse={on_reuse!r} forbids another run.",
        workflow_id=new.workflow_id,
    )


def _announce(queues: Counter[str]) -> None:
    for queue, count in queues.items():
        database.on_commit(partial(transports.hint_work, queue))
        database.on_commit(partial(instrumentation.send, instrumentation.run_started, queue=queue, count=count))
