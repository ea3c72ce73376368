"""Starting workflows: plain rows in the caller's transaction, so both commit or neither does."""

from __future__ import annotations

import math
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from asgiref.sync import sync_to_async

from django_durable import instrumentation, propagation, transports
from django_durable.client import ending, handle, messaging, surroundings, updating, waiting
from django_durable.definitions import attributes, stored_retry
from django_durable.definitions.signal import SignalMessage
from django_durable.definitions.update import UpdateMessage, UpdateOptions
from django_durable.definitions.workflow import WorkflowCall, WorkflowDefinition, WorkflowOptions, key_of
from django_durable.exceptions import DurableError, WorkflowAlreadyStarted
from django_durable.history import events, messages
from django_durable.history.status import Status
from django_durable.payloads import payload
from django_durable.payloads.payload import Payload
from django_durable.store import database, debounces, identifiers, inbox, runs, starts

START_TRIES = 5  # the run in the way may end between the insert and the look at it
REPLACED = "Replaced by a new run of the same id or singleton key."

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def start_workflow(
    definition: WorkflowDefinition[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    schedule: str | None = None,
    run_id: UUID | None = None,
    digest: str | None = None,
) -> handle.WorkflowHandle[Any]:
    """Write a run into the caller's transaction and return its handle at once.

    ``run_id``: what its id is to be; ``digest``: what is kept with it, for the caller to know his start by.

    Raises ``PayloadError`` or ``TypeError`` for arguments that do not fit, before anything is written, and
    ``WorkflowAlreadyStarted`` as the policies ``on_conflict`` and ``on_reuse`` say.
    """
    surroundings.check("start_workflow()")
    with instrumentation.starting(name=_name(definition)):
        new = _new_run(definition, args, kwargs, run_id=run_id, digest=digest)._replace(schedule=schedule)
        started = insert(new, definition)
        if started.is_new:
            _announce([new])
    return handle.WorkflowHandle(started.workflow_id, started.run_id, definition)


def start_workflows(calls: Iterable[WorkflowCall]) -> list[handle.WorkflowHandle[Any]]:
    """Start many runs in one transaction; the handles come in the order of the calls.

    Either all are started or, at the first that cannot be, none.
    """
    surroundings.check("start_workflows()")
    wanted_calls = list(calls)
    if not wanted_calls:
        return []
    _check_calls(wanted_calls)
    with instrumentation.starting(name=_name(wanted_calls[0].definition)):
        return _start_all(wanted_calls)


def _check_calls(calls: Iterable[object]) -> None:
    for call in calls:
        if isinstance(call, WorkflowDefinition):
            raise TypeError(f"start_workflows() takes calls: give it {call.__name__}.call(...) instead of {call!r}.")
        if not isinstance(call, WorkflowCall):
            raise TypeError(f"start_workflows() takes calls, such as process_order.call(1), not {call!r}.")


def _start_all(calls: Sequence[WorkflowCall]) -> list[handle.WorkflowHandle[Any]]:
    wanted = [(call.definition, _new_run(call.definition, call.args, call.kwargs)) for call in calls]
    started: dict[UUID, Started] = {}
    with database.writing():
        plain = [new for definition, new in wanted if not _may_collide(definition)]
        starts.insert_many(plain)
        # In the order of the ids, so that two bulk starts cannot wait for each other.
        named = [pair for pair in wanted if _may_collide(pair[0])]
        for definition, new in sorted(named, key=_order):
            started[new.run_id] = insert(new, definition)
    led_to = [started.get(new.run_id) or _as_wanted(new) for _, new in wanted]
    _announce([new for (_, new), one in zip(wanted, led_to, strict=True) if one.is_new])
    return [
        handle.WorkflowHandle(one.workflow_id, one.run_id, definition)
        for (definition, _), one in zip(wanted, led_to, strict=True)
    ]


def _name(definition: object) -> str:
    """Of what is to be started; that it is no workflow at all is found later, and said better."""
    return str(getattr(definition, "name", "?"))


def _may_collide(definition: WorkflowDefinition[..., Any]) -> bool:
    return definition.options.may_collide or definition.options.debounce is not None


def _order(wanted: tuple[WorkflowDefinition[..., Any], starts.NewRun]) -> tuple[str, str, str]:
    definition, new = wanted
    return _debounce_key(definition) or "", new.open_singleton or "", new.workflow_id


def signal_with_start(
    message: SignalMessage, definition: WorkflowDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> handle.WorkflowHandle[Any]:
    """Send a signal to the open run of the definition's ``workflow_id``, started here if there is none.

    Both or neither, with the caller's transaction.
    """
    signal = messages.Signal(name=message.name, payload=message.payload)
    with instrumentation.starting(name=_name(definition)):
        new = _new_run(definition, args, kwargs)
        workflow_id, place = _start_and(new, definition, lambda chain_id: messaging.put(chain_id, signal))
    return handle.WorkflowHandle(workflow_id, place.run_id, definition)


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
    with instrumentation.starting(name=_name(definition)):
        new = _new_run(definition, args, kwargs)
        waiting.refuse_in_transaction("update_with_start()", new.workflow_id)
        update_id = message.options(UpdateOptions()).update_id or updating.new_id()
        workflow_id, place = _start_and(new, definition, lambda chain_id: updating.put(chain_id, update_id, message))
    return updating.Sent(workflow_id, message.name, place, update_id)


def _start_and(
    new: starts.NewRun, definition: WorkflowDefinition[..., Any], deliver: Callable[[UUID], bool]
) -> tuple[str, runs.Place]:
    """Start the run, or find the open one, and deliver to it in the same transaction; its workflow id and place."""
    surroundings.check("A start with a message")
    if definition.options.on_conflict == "fail":
        definition = definition.using(on_conflict="use_existing")
    in_transaction = database.in_transaction()
    for _ in range(START_TRIES):
        before = runs.open_chain(new.workflow_id)
        if before is not None and not in_transaction:
            inbox.step_back(before)
        with database.writing():
            started = insert(new, definition)
            place = runs.Place(*[new.run_id] * 2) if started.is_new else runs.open_place(started.workflow_id)
            if place is not None and deliver(place.chain_id):
                if started.is_new:
                    _announce([new])
                return started.workflow_id, place
    raise DurableError(
        f"Workflow {new.workflow_id!r} could not be reached: its runs keep ending and beginning. Try again."
    )


def _new_run(
    definition: WorkflowDefinition[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    run_id: UUID | None = None,
    digest: str | None = None,
) -> starts.NewRun:
    if not isinstance(definition, WorkflowDefinition):
        raise TypeError(
            f"A start needs a workflow, not {definition!r}: a function that is decorated with @durable.workflow, "
            "or durable.workflow_named(name)."
        )
    headers = propagation.capture(digest=digest)
    return new_run(definition, definition.encode_input(args, kwargs), headers=headers, run_id=run_id)


def new_run(
    definition: WorkflowDefinition[..., Any],
    input: Payload,
    *,
    headers: Payload | None = None,
    run_id: UUID | None = None,
) -> starts.NewRun:
    """A run as the definition's options say, ready to be inserted."""
    options = definition.options
    run_id = run_id or identifiers.uuid7()
    alone = options.subject is not None and options.one_per_subject
    return starts.NewRun(
        run_id=run_id,
        workflow_id=options.workflow_id or str(run_id),
        name=definition.name,
        version=definition.version,
        fingerprint=definition.fingerprint,
        definition=definition.key,
        queue=options.queue,
        priority=options.priority,
        partition_key=options.partition_key or "",
        delay=options.start_delay or None,
        start_at=options.start_at,
        execution_timeout=options.execution_timeout,
        run_timeout=options.run_timeout,
        retry=stored_retry.dump(options.retry) if options.retry is not None else None,
        label=options.label,
        subject_type=options.subject.type if options.subject is not None else None,
        subject_id=options.subject.id if options.subject is not None else None,
        open_subject=options.subject.key if options.subject is not None and alone else None,
        open_singleton=_singleton_key(definition),
        attributes=options.attributes or None,
        headers=payload.dump(headers) if headers is not None else None,
        started=events.RunStarted(
            input=input,
            seed=secrets.randbits(63),
            python=PYTHON,
            attributes=attributes.encode_all(options.attributes),
            headers=headers,
            one_per_subject=alone,
            singleton_key=options.singleton_key,
        ),
    )


def _singleton_key(definition: WorkflowDefinition[..., Any]) -> str | None:
    key = definition.options.singleton_key
    return None if key is None else key_of(definition.name, key)


def _debounce_key(definition: WorkflowDefinition[..., Any]) -> str | None:
    debounce = definition.options.debounce
    return None if debounce is None else key_of(definition.name, debounce.key)


class Started(NamedTuple):
    """The run that a start has led to, its own or another one."""

    workflow_id: str
    run_id: UUID
    is_new: bool = False


def _as_wanted(new: starts.NewRun) -> Started:
    return Started(new.workflow_id, new.run_id, is_new=True)


def insert(new: starts.NewRun, definition: WorkflowDefinition[..., Any]) -> Started:
    """Insert the run, or find the one that its policies accept in its place. Raises ``WorkflowAlreadyStarted``."""
    debounce, key = definition.options.debounce, _debounce_key(definition)
    if debounce is None or key is None:
        return _insert(new, definition)
    with database.writing():
        place = debounces.lock(key)
        waiting = debounces.push_back(place, new, wait=debounce.wait)
        delayed = new._replace(delay=debounce.wait)
        _announce_delays([delayed])
        if waiting is not None:
            return Started(*waiting)
        started = _insert(delayed, definition)
        if started.is_new:
            debounces.take(place, new.run_id, max_wait=debounce.max_wait)
        return started


def _insert(new: starts.NewRun, definition: WorkflowDefinition[..., Any]) -> Started:
    if definition.options.on_conflict != "terminate_existing":
        return _try_to_insert(new, definition)
    with database.writing():  # what a start replaces goes on if the start comes to nothing
        return _try_to_insert(new, definition)


def _try_to_insert(new: starts.NewRun, definition: WorkflowDefinition[..., Any]) -> Started:
    replaced: set[str] = set()  # their ends are no reason to refuse the id
    for _ in range(START_TRIES):
        # Looked for first: on MariaDB two inserts that meet what both are to replace would then wait for each other.
        taken = _in_the_way(new) if definition.options.on_conflict == "terminate_existing" else None
        if taken is None and _starts(new, definition, replaced):
            return _as_wanted(new)
        taken = taken or _in_the_way(new)
        if taken is None:
            _check_subject(new, definition.options)
            continue
        if taken.run_id == new.run_id:  # an earlier try of this very start was committed after all
            return taken
        match definition.options.on_conflict:
            case "use_existing":
                return taken
            case "terminate_existing":
                if ending.terminate_workflow(taken.workflow_id, REPLACED):
                    replaced.add(taken.workflow_id)
            case _:
                raise WorkflowAlreadyStarted(
                    _already(new, taken, definition), workflow_id=taken.workflow_id, run_id=taken.run_id
                )
    raise DurableError(
        f"Workflow {new.workflow_id!r} could not be started: its id keeps being taken and given up. Try again."
    )


def _starts(new: starts.NewRun, definition: WorkflowDefinition[..., Any], replaced: Collection[str]) -> bool:
    """Whether the run could be inserted, and may be."""
    with database.writing():
        inserted = starts.insert(new)
        if inserted and definition.options.workflow_id is not None and new.workflow_id not in replaced:
            _check_reuse(new, definition.options.on_reuse)
        return inserted


def in_the_way(definition: WorkflowDefinition[..., Any]) -> UUID | None:
    """The open run that a start of this definition would meet; None: there is none now."""
    options, key = definition.options, _singleton_key(definition)
    taken = runs.open_run(options.workflow_id) if options.workflow_id is not None else None
    other = runs.open_singleton(key) if taken is None and key is not None else None
    return other[1] if other is not None else taken


def _in_the_way(new: starts.NewRun) -> Started | None:
    """The open run that has the workflow id, or else the singleton key."""
    taken = runs.open_run(new.workflow_id)
    if taken is not None:
        return Started(new.workflow_id, taken)
    other = runs.open_singleton(new.open_singleton) if new.open_singleton is not None else None
    return Started(*other) if other is not None else None


def _already(new: starts.NewRun, taken: Started, definition: WorkflowDefinition[..., Any]) -> str:
    if taken.workflow_id == new.workflow_id:
        return (
            f"Workflow {new.workflow_id!r} is running already (run {taken.run_id}). Use another workflow_id, or "
            "on_conflict='use_existing' or 'terminate_existing'."
        )
    return (
        f"Workflow {taken.workflow_id!r} is running already (run {taken.run_id}) with the singleton_key "
        f"{definition.options.singleton_key!r} of {definition.name}. Wait for its end, or use "
        "on_conflict='use_existing' or 'terminate_existing'."
    )


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
        f"Workflow {new.workflow_id!r} has run before (it is {before}), and on_reuse={on_reuse!r} forbids another run. "
        "Use another workflow_id, or on_reuse='allow'.",
        workflow_id=new.workflow_id,
    )


def _announce(started: Collection[starts.NewRun]) -> None:
    for queue, count in Counter(new.queue for new in started).items():
        database.on_commit(partial(transports.hint_work, queue))
        database.on_commit(partial(instrumentation.send, instrumentation.run_started, queue=queue, count=count))
    _announce_delays(started)


def _announce_delays(started: Collection[starts.NewRun]) -> None:
    """Where nobody waits for what is due later, somebody is to be there then."""
    for queue, seconds in {(new.queue, math.ceil(_until_due(new))) for new in started}:
        if seconds > 0:
            database.on_commit(partial(transports.hint_later, queue, seconds))


def _until_due(new: starts.NewRun) -> float:
    """Seconds until a run begins; 0 or less: it is due now."""
    if new.start_at is not None:
        return (new.start_at - datetime.now(UTC)).total_seconds()
    return new.delay.total_seconds() if new.delay is not None else 0.0
