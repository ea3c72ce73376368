"""Messages to open workflows: rows in their inboxes, in the caller's transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from functools import partial
from uuid import UUID

from django_durable import transports
from django_durable.client import finding, surroundings
from django_durable.definitions.signal import SignalMessage
from django_durable.exceptions import KeyReused, WorkflowClosed
from django_durable.history import messages
from django_durable.payloads.payload import Payload
from django_durable.store import children, database, dispatch, inbox, outages, runs, updates

RESOLVE_TRIES = 3  # a workflow id may pass to a new run between the look at it and the send


def signal_workflow(workflow_id: str, message: SignalMessage, *, run_id: UUID | None = None) -> None:
    """Send a signal to the open run of ``workflow_id``; it is stored with the caller's transaction or not at all.

    ``run_id`` means that run and no later one of the same id. Raises ``WorkflowNotFound``, or ``WorkflowClosed`` if
    the workflow has ended, and ``ForeignTransaction`` inside a transaction on another database.
    """
    surroundings.check(f"A message to workflow {workflow_id!r}")
    if not send(workflow_id, messages.Signal(name=message.name, payload=message.payload), run_id=run_id):
        raise WorkflowClosed(
            f"Workflow {workflow_id!r} has ended, so signal {message.name!r} cannot reach it. "
            "Start a new run first if the signal is meant for one."
        )


@outages.begins_anew
def send(
    workflow_id: str, message: messages.Message, *, run_id: UUID | None = None, holds: Collection[str] = ()
) -> bool:
    """Send ``message`` to the open run of ``workflow_id``, or to ``run_id`` alone.

    ``holds``: it wakes the run even if that is held as one of these. False: it has ended. Raises ``WorkflowNotFound``.
    """
    in_transaction = database.in_transaction()
    for _ in range(RESOLVE_TRIES):
        chain_id = runs.open_chain(workflow_id, run_id=run_id)
        if chain_id is None:
            break
        if not in_transaction:
            inbox.step_back(chain_id)
        with database.writing():
            if put(chain_id, message, holds=holds):
                return True
    finding.check(workflow_id)
    return False


@outages.begins_anew
def signal_once(workflow_id: str, message: SignalMessage, *, run_id: UUID, key: str) -> None:
    """``signal_workflow`` for senders that may repeat themselves: what comes again under ``key`` is not sent again.

    That is so for as long as the chain is open, and a day longer. Raises ``KeyReused`` if the key came with another
    signal or payload before.
    """
    digest = digest_of("signal", message.name, message.payload)
    for _ in range(RESOLVE_TRIES):
        place = runs.latest_place(workflow_id, run_id=run_id)
        if place is None:
            raise finding.unknown(workflow_id)
        if _came_before(place.chain_id, key, digest):
            return
        if runs.open_chain(workflow_id, run_id=run_id) is None:
            break
        inbox.step_back(place.chain_id)
        with database.writing():
            if inbox.reach(place.chain_id) and updates.claim_key(place.chain_id, key, message.name, digest):
                inbox.put(place.chain_id, messages.Signal(name=message.name, payload=message.payload))
                database.on_commit(partial(hint, place.chain_id))
                return
    raise WorkflowClosed(
        f"Workflow {workflow_id!r} has ended, so signal {message.name!r} cannot reach it. "
        "Start a new run first if the signal is meant for one."
    )


def claim_key(chain_id: UUID, name: str, digest: str, *, key: str) -> None:
    """Note that a message comes under this key, now or before. Raises ``KeyReused`` if another one did."""
    if not _came_before(chain_id, key, digest) and not updates.claim_key(chain_id, key, name, digest):
        _came_before(chain_id, key, digest)


def digest_of(kind: str, name: str, payload: Payload) -> str:
    """What tells a message from others that come with the same key."""
    return hashlib.sha256(b"\0".join([kind.encode(), name.encode(), bytes(payload.data)])).hexdigest()


def _came_before(chain_id: UUID, key: str, digest: str) -> bool:
    before = updates.claimed_digest(chain_id, key)
    if before is not None and before != digest:
        raise KeyReused(f"The idempotency key {key!r} came with another message before. Take a new one.")
    return before is not None


def put(chain_id: UUID, message: messages.Message, *, holds: Collection[str] = ()) -> bool:
    """Send ``message`` in the caller's transaction, and a hint after it. False: the chain has ended."""
    if not inbox.send(chain_id, message):
        return False
    database.on_commit(partial(hint, chain_id, holds=holds))
    return True


def hint_all(chain_ids: Collection[UUID], *, holds: Collection[str] = ()) -> None:
    """``hint`` for many chains at once."""
    if not chain_ids:
        return
    places = list(dispatch.rows().filter(pk__in=chain_ids).values_list("pk", "owner", "queue"))
    for owner in {owner for _, owner, _ in places if owner is not None}:
        transports.hint_message(owner)
    asleep = {chain: queue for chain, owner, queue in places if owner is None}
    if dispatch.make_due(list(asleep), holds=holds):
        for queue in set(asleep.values()):
            transports.hint_work(queue)


def close_children(parents: Collection[UUID] | None = None) -> int:
    """Tell open children of parents that have ended (None: of all such parents) what their options say; how many."""
    total = 0
    while told := children.tell_orphans(parents):
        hint_all(told.terminated, holds=dispatch.HOLDS)
        hint_all(told.cancelled, holds=(dispatch.DELAYED,))
        total += len(told.terminated) + len(told.cancelled)
    return total


def tell(chain_id: UUID) -> None:
    """Tell whoever may act that a chain's hold has changed: its owner, or the workers of its queue."""
    queue = _hint_owner(chain_id)
    if queue is not None:
        transports.hint_work(queue)


def hint(chain_id: UUID, *, holds: Collection[str] = ()) -> None:
    """Tell whoever may act that a chain has a message: its owner, or the workers of its queue.

    ``holds``: what must not wait until such a hold ends, nor for the chain's turn.
    """
    queue = _hint_owner(chain_id)
    if queue is not None and (dispatch.make_due([chain_id], holds=holds) or holds):
        transports.hint_work(queue)


def _hint_owner(chain_id: UUID) -> str | None:
    """Tell the owner of a chain; if it has none, the queue whose workers are to be told. None: nobody else is."""
    place = dispatch.place(chain_id)
    if place is None:
        return None
    owner, queue = place
    if owner is None:
        return queue
    transports.hint_message(owner)
    return None
