"""A message together with the start of its workflow, if none is open: both or neither."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async

from django_durable import instrumentation
from django_durable.client import (
    announcing,
    handle,
    messaging,
    new_runs,
    placing,
    starting,
    surroundings,
    updating,
    waiting,
)
from django_durable.definitions.signal import SignalMessage
from django_durable.definitions.update import UpdateMessage, UpdateOptions
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.exceptions import DurableError
from django_durable.history import messages
from django_durable.store import database, inbox, outages, runs, starts


def signal_with_start(
    message: SignalMessage, definition: WorkflowDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> handle.WorkflowHandle[Any]:
    """Send a signal to the open run of the definition's ``workflow_id``, started here if there is none.

    Both or neither, with the caller's transaction.
    """
    signal = messages.Signal(name=message.name, payload=message.payload)
    with instrumentation.starting(name=starting.name_of(definition)):
        new = new_runs.of_call(definition, args, kwargs)
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
    with instrumentation.starting(name=starting.name_of(definition)):
        new = new_runs.of_call(definition, args, kwargs)
        waiting.refuse_in_transaction("update_with_start()", new.workflow_id)
        update_id = message.options(UpdateOptions()).update_id or updating.new_id()
        workflow_id, place = _start_and(new, definition, lambda chain_id: updating.put(chain_id, update_id, message))
    return updating.Sent(workflow_id, message.name, place, update_id)


@outages.begins_anew
def _start_and(
    new: starts.NewRun, definition: WorkflowDefinition[..., Any], deliver: Callable[[UUID], bool]
) -> tuple[str, runs.Place]:
    """Start the run, or find the open one, and deliver to it in the same transaction; its workflow id and place."""
    surroundings.check("A start with a message")
    if definition.options.on_conflict == "fail":
        definition = definition.using(on_conflict="use_existing")
    in_transaction = database.in_transaction()
    for _ in range(placing.TRIES):
        before = runs.open_chain(new.workflow_id)
        if before is not None and not in_transaction:
            inbox.step_back(before)
        with database.writing():
            started = placing.insert(new, definition)
            place = runs.Place(*[new.run_id] * 2) if started.is_new else runs.open_place(started.workflow_id)
            if place is not None and deliver(place.chain_id):
                if started.is_new:
                    announcing.announce([new])
                return started.workflow_id, place
    raise DurableError(
        f"Workflow {new.workflow_id!r} could not be reached: its runs keep ending and beginning. Try again."
    )
