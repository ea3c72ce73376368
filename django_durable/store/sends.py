"""Messages that runs send to other workflows, in the flush that records the request, with the answer to the sender."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

from django_durable.history import messages
from django_durable.history.failures import Failure
from django_durable.models import WorkflowRun
from django_durable.store import database, dispatch, inbox


class Send(NamedTuple):
    """A message to a child's chain, or to whichever chain has a workflow id. ``answer``: the request's key."""

    message: messages.Message
    chain_id: UUID | None = None
    workflow_id: str = ""
    answer: str | None = None


class Delivery(NamedTuple):
    """A send that can be written now: ``target`` None: there is nobody to have it, as ``failure`` says."""

    sender: UUID
    send: Send
    target: UUID | None
    failure: Failure | None = None


def plan(
    wanted: Sequence[tuple[UUID, Send]], *, new: Collection[UUID], ending: Collection[UUID]
) -> tuple[list[Delivery], set[UUID]]:
    """Find and lock the targets: what can be delivered, and senders whose targets are busy for now.

    ``new`` and ``ending``: chains that this very transaction starts or ends. Waits for nobody.
    """
    open_ = _open_chains({send.workflow_id for _, send in wanted if send.chain_id is None})
    targets = {send.chain_id or open_.get(send.workflow_id) for _, send in wanted} - {None, *new}
    chains = {target for target in targets if target is not None}
    had = dispatch.shared(chains) if chains else {}
    there = dispatch.existing(chains - had.keys()) if len(had) < len(chains) else set()
    deliveries, busy = [], set()
    for sender, send in wanted:
        target = send.chain_id or open_.get(send.workflow_id)
        if target in ending:
            busy.add(sender)
        elif target in had or target in new:
            deliveries.append(Delivery(sender, send, target))
        elif target in there or (target is not None and send.chain_id is None):
            busy.add(sender)  # locked, or just ended: then the next look at the workflow id says what is there now
        else:
            deliveries.append(Delivery(sender, send, None))
    return _with_failures(deliveries), busy


def asked_to_end(deliveries: Sequence[Delivery]) -> set[UUID]:
    """The chains that are asked to end: that wakes them even before they have begun."""
    return {
        one.target for one in deliveries if one.target is not None and isinstance(one.send.message, messages.Cancel)
    }


def write(deliveries: Sequence[Delivery]) -> set[UUID]:
    """Insert messages and answers; returns the chains that have got something."""
    sent = [(one.target, one.send.message) for one in deliveries if one.target is not None]
    answers = [
        (one.sender, messages.ExternalResult(key=one.send.answer, failure=one.failure))
        for one in deliveries
        if one.send.answer is not None
    ]
    inbox.insert([*sent, *answers])
    return {chain for chain, _ in (*sent, *answers)}


def _open_chains(workflow_ids: set[str]) -> dict[str, UUID]:
    if not workflow_ids:
        return {}
    rows = WorkflowRun.objects.using(database.alias()).filter(open_workflow_id__in=workflow_ids)
    return {name: chain for name, chain in rows.values_list("open_workflow_id", "chain_id") if name is not None}


def _with_failures(deliveries: list[Delivery]) -> list[Delivery]:
    lost = {one.send.workflow_id for one in deliveries if one.target is None}
    if not lost:
        return deliveries
    rows = WorkflowRun.objects.using(database.alias()).filter(workflow_id__in=lost)
    known = set(rows.values_list("workflow_id", flat=True).distinct())
    return [
        one if one.target is not None else one._replace(failure=_failure(one.send.workflow_id, known))
        for one in deliveries
    ]


def _failure(workflow_id: str, known: set[str]) -> Failure:
    if workflow_id in known:
        return Failure(type="WorkflowClosed", message=f"Workflow {workflow_id!r} has ended.")
    return Failure(type="WorkflowNotFound", message=f"There is no workflow {workflow_id!r}.")
