"""Updates of open workflows: a message in the inbox, a place for the reply, and the wait for it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from asgiref.sync import sync_to_async

from django_durable.client import finding, messaging, surroundings, waiting
from django_durable.definitions.update import UpdateMessage, UpdateOptions
from django_durable.exceptions import UpdateFailed, UpdateRejected, WorkflowClosed
from django_durable.history import failures, messages
from django_durable.history.failures import Failure
from django_durable.history.replies import ANSWERED, State
from django_durable.payloads import codec, payload
from django_durable.store import database, inbox, outages, runs, updates


class Sent(NamedTuple):
    """An update that is stored: where its reply will be."""

    workflow_id: str
    name: str
    place: runs.Place
    update_id: str


def update_workflow(
    workflow_id: str, message: UpdateMessage, options: UpdateOptions, *, run_id: UUID | None = None
) -> Any:
    """Send an update to the open run of ``workflow_id``, wait for the reply, and return it.

    Raises ``UpdateRejected`` if the workflow refuses it, ``UpdateFailed`` if its handler raises, ``WorkflowClosed``
    if the workflow has ended or ends first, ``WorkflowNotFound``, ``TimeoutError`` once the options' timeout has
    passed, and ``WouldWaitForever`` inside an open transaction.
    """
    options = message.options(options)
    sent = send(workflow_id, message, options, run_id=run_id)
    for pause in pauses(sent, options):
        time.sleep(pause)
    return reply(sent, options)


async def aupdate_workflow(
    workflow_id: str, message: UpdateMessage, options: UpdateOptions, *, run_id: UUID | None = None
) -> Any:
    """``update_workflow`` for async code. No thread waits meanwhile."""
    options = message.options(options)
    return await areply(await sync_to_async(send)(workflow_id, message, options, run_id=run_id), options)


async def areply(sent: Sent, options: UpdateOptions) -> Any:
    """Wait for the reply to what was sent."""
    looks = pauses(sent, options)
    while (pause := await sync_to_async(lambda: next(looks, None))()) is not None:
        await asyncio.sleep(pause)
    return await sync_to_async(reply)(sent, options)


@outages.begins_anew
def send(workflow_id: str, message: UpdateMessage, options: UpdateOptions, *, run_id: UUID | None = None) -> Sent:
    """Store an update in a transaction of its own, unless one of that id was sent before."""
    surroundings.check("update()")
    waiting.refuse_in_transaction("update()", workflow_id)
    update_id = options.update_id or new_id()
    for _ in range(messaging.RESOLVE_TRIES):
        place = runs.open_place(workflow_id, run_id=run_id)
        if place is None:
            break
        inbox.step_back(place.chain_id)
        with database.writing():
            if put(place.chain_id, update_id, message):
                return Sent(workflow_id, message.name, place, update_id)
    return _sent_before(workflow_id, message, update_id, run_id)


def new_id() -> str:
    return str(uuid.uuid4())


def put(chain_id: UUID, update_id: str, message: UpdateMessage) -> bool:
    """Store an update in the caller's transaction, unless it is there already. False: the chain has ended."""
    if not inbox.reach(chain_id):
        return False
    if updates.add(chain_id, update_id, message.name):
        inbox.put(chain_id, messages.Update(id=update_id, name=message.name, input=message.input))
        database.on_commit(partial(messaging.hint, chain_id))
    return True


def _sent_before(workflow_id: str, message: UpdateMessage, update_id: str, run_id: UUID | None) -> Sent:
    """The workflow has ended: its last word on that update, if it got there."""
    place = runs.latest_place(workflow_id, run_id=run_id)
    if place is None:
        raise finding.unknown(workflow_id)
    sent = Sent(workflow_id, message.name, place, update_id)
    if updates.state(place.chain_id, update_id) is None:
        raise _closed(sent)
    return sent


def pauses(sent: Sent, options: UpdateOptions) -> Iterator[float]:
    """Looks for the reply; yields how many seconds to wait before the next look."""
    enough = ANSWERED | ({State.ACCEPTED} if options.wait == "accepted" else set())

    def has_come() -> bool:
        state = updates.state(sent.place.chain_id, sent.update_id)
        return state is None or state in enough

    def too_late(seconds: float) -> str:
        return (
            f"Update {sent.name!r} of workflow {sent.workflow_id!r} had no reply after {seconds} s; it is "
            f"{updates.state(sent.place.chain_id, sent.update_id)}. It goes on: ask for the reply with the same "
            f"update_id, {sent.update_id!r}."
        )

    return waiting.pauses(
        "update()",
        sent.workflow_id,
        sent.place.run_id,
        has_come=has_come,
        too_late=too_late,
        timeout=options.timeout,
    )


def reply(sent: Sent, options: UpdateOptions) -> Any:
    """The answer that is there now. None for an update that was waited for until it was accepted."""
    found = updates.read(sent.place.chain_id, sent.update_id)
    if found is None or found.state is State.MISSED:
        raise _closed(sent)
    if found.state is State.REJECTED:
        raise _unsuccessful(UpdateRejected, sent, found)
    if options.wait == "accepted":
        return None
    if found.state is State.FAILED:
        raise _unsuccessful(UpdateFailed, sent, found)
    stored = payload.load(found.result) if found.result else payload.NULL
    return codec.decode(stored, what=f"The reply to update {sent.name!r}")


def _closed(sent: Sent) -> WorkflowClosed:
    return WorkflowClosed(
        f"Workflow {sent.workflow_id!r} has ended, so update {sent.name!r} cannot reach it. "
        "Start a new run first if the update is meant for one."
    )


def _unsuccessful(
    kind: type[UpdateRejected] | type[UpdateFailed], sent: Sent, found: updates.Reply
) -> UpdateRejected | UpdateFailed:
    failure = msgspec.json.decode(found.failure, type=Failure) if found.failure else Failure(type="WorkflowClosed")
    error = kind(
        f"{failure.type}: {failure.message}" if failure.type != kind.__name__ else failure.message,
        workflow_id=sent.workflow_id,
        update_id=sent.update_id,
        type=failure.type,
        traceback=failure.traceback,
        data=failure.data,
    )
    error.message = failure.message
    error.__cause__ = failures.to_exception(failure)
    return error
