"""Parents and children: replies to parents, and what becomes of children whose parent has ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec
from django.db.models import Exists, OuterRef, Q, QuerySet

from django_durable.history import messages
from django_durable.history.failures import Failure
from django_durable.history.status import CLOSED, Status
from django_durable.models import Dispatch, WorkflowRun
from django_durable.payloads import payload
from django_durable.store import database, dispatch, inbox, locks

BATCH = 500
TOLD = "told"  # parent_close of a child whose policy has been carried out


class Parent(NamedTuple):
    """Where a run's reply goes."""

    chain_id: UUID
    key: str


class Reply(NamedTuple):
    """What a chain that has ended tells its parent."""

    parent: Parent
    status: Status
    result: str | None
    failure: str | None


def parent_of(run: WorkflowRun) -> Parent | None:
    if run.parent_chain_id is None or run.parent_key is None:
        return None
    return Parent(run.parent_chain_id, run.parent_key)


def busy(parents: Collection[Parent]) -> set[UUID]:
    """Chains of parents that are ending just now: a reply has to wait until it is known what becomes of them.

    The others are locked against their end, until this transaction ends.
    """
    chains = {parent.chain_id for parent in parents}
    if not chains:
        return set()
    had = dispatch.shared(chains)
    return dispatch.existing(chains - had.keys()) if len(had) < len(chains) else set()


def reply(replies: Sequence[Reply]) -> set[UUID]:
    """Tell parents, those that are still there; returns their chains. None of them is busy: ``busy`` was asked."""
    if not replies:
        return set()
    had = dispatch.shared({one.parent.chain_id for one in replies})
    inbox.insert([(one.parent.chain_id, _message(one)) for one in replies if one.parent.chain_id in had])
    return set(had)


def _message(one: Reply) -> messages.ChildResult:
    return messages.ChildResult(
        key=one.parent.key,
        status=one.status,
        result=payload.load(one.result) if one.result is not None else None,
        failure=msgspec.json.decode(one.failure, type=Failure) if one.failure is not None else None,
    )


# Children whose parent has ended


class Told(NamedTuple):
    """Chains of children that were told to end at once, and of those that were asked to."""

    terminated: set[UUID]
    cancelled: set[UUID]

    def __bool__(self) -> bool:
        return bool(self.terminated or self.cancelled)


def tell_orphans(chain_ids: Collection[UUID] | None = None) -> Told:
    """Carry out the parent-close policy of one batch of open children whose parents have ended; returns their chains.

    ``chain_ids``: of parents; None: of all. A message to each child, in the transaction that notes it: a child is told
    once. Children whose row is locked are left for the next time.
    """
    with database.sweeping():
        found = locks.first(_orphans(chain_ids).values_list("pk", "chain_id", "parent_close"), BATCH)
        had = dispatch.shared({chain for _, chain, _ in found}) if found else {}
        told = [one for one in found if one[1] in had]
        inbox.insert([(chain, _parting(policy)) for _, chain, policy in told])
        WorkflowRun.objects.using(database.alias()).filter(pk__in=[run_id for run_id, _, _ in told]).update(
            parent_close=TOLD
        )
    return Told(
        {chain for _, chain, policy in told if policy == "terminate"},
        {chain for _, chain, policy in told if policy == "cancel"},
    )


def _orphans(chain_ids: Collection[UUID] | None) -> QuerySet[WorkflowRun]:
    """Open children with a policy, whose parent's chain is closed; or whose parent's run is, and is tried again."""
    rows = WorkflowRun.objects.using(database.alias())
    children = rows.filter(
        parent_chain_id__isnull=False, open_workflow_id__isnull=False, parent_close__in=("terminate", "cancel")
    )
    if chain_ids is not None:
        children = children.filter(parent_chain_id__in=chain_ids)
    goes_on = Exists(Dispatch.objects.filter(chain_id=OuterRef("parent_chain_id")))
    over = sorted(CLOSED - {Status.CONTINUED_AS_NEW})
    failed = Exists(WorkflowRun.objects.filter(pk=OuterRef("parent_run_id"), status__in=over))
    return children.filter(Q(~goes_on) | Q(failed)).order_by("pk")


def _parting(policy: str) -> messages.Message:
    if policy == "terminate":
        return messages.Terminate(reason="The parent workflow has ended.")
    return messages.Cancel(reason="The parent workflow has ended.")
