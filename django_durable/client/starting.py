"""Starting workflows: plain rows in the caller's transaction, so both commit or neither does."""

from __future__ import annotations

import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async

from django_durable import instrumentation, propagation, transports
from django_durable.client import ending, handle, messaging, updating, waiting
from django_durable.definitions import attributes, stored_retry
from django_durable.definitions.signal import SignalMessage
from django_durable.definitions.update import UpdateMessage, UpdateOptions
from django_durable.definitions.workflow import WorkflowCall, WorkflowDefinition, WorkflowOptions
from django_durable.exceptions import DurableError, WorkflowAlreadyStarted
from django_durable.history import events, messages
from django_durable.history.status import Status
from django_durable.payloads import payload
from django_durable.payloads.payload import Payload
from django_durable.store import database, identifiers, inbox, runs, starts

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
    run_id = insert(new, definition)
    _announce(Counter({new.queue: 1}))
    return handle.WorkflowHandle(new.workflow_id, run_id, definition)


def start_workflows(calls: Iterable[WorkflowCall]) -> list[handle.WorkflowHandle[Any]]:
    """Start many runs in one transaction; the handles come in the order of the calls.

    Either all are started or, at the first that cannot be, none.
    """
    wanted = [(call.definition, _new_run(call.definition, call.args, call.kwargs)) for call in calls]
    started: dict[UUID, UUID] = {}
    with database.writing():
        plain = [new for definition, new in wanted if not _may_collide(definition)]
        starts.insert_many(plain)
        # In the order of the ids, so that two bulk starts cannot wait for each other.
        named = [pair for pair in wanted if _may_collide(pair[0])]
        for definition, new in sorted(named, key=lambda pair: pair[1].workflow_id):
            started[new.run_id] = insert(new, definition)
    _announce(Counter(new.queue for _, new in wanted))
    return [
        handle.WorkflowHandle(new.workflow_id, started.get(new.run_id, new.run_id), definition)
        for definition, new in wanted
    ]


def _may_collide(definition: WorkflowDefinition[..., Any]) -> bool:
    return definition.options.workflow_id is not None or definition.options.one_per_subject


def signal_with_start(
    message: SignalMessage, definition: WorkflowDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> handle.WorkflowHandle[Any]:
    """Send a signal to the open run of the definition's ``workflow_id``, started here if there is none.

    Both or neither, with the caller's transaction.
    """
    signal = messages.Signal(name=message.name, payload=message.payload)
    new = _new_run(definition, args, kwargs)
    place = _start_and(new, definition, lambda chain_id: messaging.put(chain_id, signal))
    return handle.WorkflowHandle(new.workflow_id, place.run_id, definition)


def update_with_start(
    message: UpdateMessage, definition: WorkflowDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Send an update to the open run of the definition's ``workflow_id``, started here if there is none; its reply.

    The start and the update are stored in one transaction of their own. Raises as ``update_workflow`` does.
    """
    sent, options = send_with_start(message, definition, args, kwargs), message.options(UpdateOptions())
    for pause in updating.pauses(sent, options):
        time.sleep(pause)
    return updating.reply(sent, options)


async def aupdate_with_start(
    message: UpdateMessage, definition: WorkflowDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """``update_with_start`` for async code. No thread waits meanwhile."""
    sent = await sync_to_async(send_with_start)(message, definition, args, kwargs)
    return await updating.areply(sent, message.options(UpdateOptions()))


def send_with_start(
    message: UpdateMessage, definition: WorkflowDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> updating.Sent:
    """What ``update_with_start`` does before it waits."""
    new = _new_run(definition, args, kwargs)
    waiting.refuse_in_transaction("update_with_start()", new.workflow_id)
    update_id = message.options(UpdateOptions()).update_id or updating.new_id()
    place = _start_and(new, definition, lambda chain_id: updating.put(chain_id, update_id, message))
    return updating.Sent(new.workflow_id, message.name, place, update_id)


def _start_and(
    new: starts.NewRun, definition: WorkflowDefinition[..., Any], deliver: Callable[[UUID], bool]
) -> runs.Place:
    """Start the run, or find the open one, and deliver to it in the same transaction."""
    if definition.options.on_conflict == "fail":
        definition = definition.using(on_conflict="use_existing")
    in_transaction = database.in_transaction()
    for _ in range(START_TRIES):
        before = runs.open_chain(new.workflow_id)
        if before is not None and not in_transaction:
            inbox.step_back(before)
        with database.writing():
            run_id = insert(new, definition)
            is_new = run_id == new.run_id
            place = runs.Place(run_id, run_id) if is_new else runs.open_place(new.workflow_id)
            if place is not None and deliver(place.chain_id):
                if is_new:
                    _announce(Counter({new.queue: 1}))
                return place
    raise DurableError(f"Workflow {new.workflow_id!r} could not be reached: its runs keep ending and beginning.")


def _new_run(definition: WorkflowDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> starts.NewRun:
    if not isinstance(definition, WorkflowDefinition):
        raise TypeError(
            f"A start needs a workflow, not {definition!r}: a function that is decorated with @durable.workflow, "
            "or durable.workflow_named(name)."
        )
    return new_run(definition, definition.encode_input(args, kwargs), headers=propagation.capture())


def new_run(
    definition: WorkflowDefinition[..., Any], input: Payload, *, headers: Payload | None = None
) -> starts.NewRun:
    """A run as the definition's options say, ready to be inserted."""
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
        label=options.label,
        subject_type=options.subject.type if options.subject is not None else None,
        subject_id=options.subject.id if options.subject is not None else None,
        open_subject=options.subject.key if options.subject is not None and options.one_per_subject else None,
        attributes=options.attributes or None,
        headers=payload.dump(headers) if headers is not None else None,
        started=events.RunStarted(
            input=input,
            seed=secrets.randbits(63),
            python=PYTHON,
            attributes=attributes.encode_all(options.attributes),
            headers=headers,
        ),
    )


def insert(new: starts.NewRun, definition: WorkflowDefinition[..., Any]) -> UUID:
    """Insert the run, or find the one that its policy accepts in its place; returns the run id.

    Raises ``WorkflowAlreadyStarted``.
    """
    for _ in range(START_TRIES):
        with database.writing():
            if starts.insert(new):
                if definition.options.workflow_id is not None:
                    _check_reuse(new, definition.options.on_reuse)
                return new.run_id
        taken = runs.open_run(new.workflow_id)
        if taken is None:
            _check_subject(new, definition.options)
            continue
        if taken == new.run_id:  # an earlier try of this very start was committed after all
            return taken
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


def _check_subject(new: starts.NewRun, options: WorkflowOptions) -> None:
    """Raise if it is the subject, not the workflow id, that another run has taken."""
    if new.open_subject is None or options.subject is None:
        return
    other = runs.open_about(options.subject)
    if other is not None:
        raise WorkflowAlreadyStarted(
            f"Workflow {other.workflow_id!r} ({other.name}) is running already for {options.subject.type} "
            f"{options.subject.id} (run {other.pk}), and one_per_subject allows one run at a time for the same "
            f"subject. Wait for its end, signal it, or start this one without one_per_subject.",
            workflow_id=other.workflow_id,
            run_id=other.pk,
        )


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
