"""Children of a run that is reset: those that are open go with it, those that have ended answer, or are tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

import msgspec

from django_durable.engine import cuts
from django_durable.engine.cuts import Cut
from django_durable.exceptions import DurableError
from django_durable.history import messages
from django_durable.history.events import Recorded
from django_durable.history.failures import Failure
from django_durable.history.status import CLOSED, Status
from django_durable.models import WorkflowRun
from django_durable.payloads import payload
from django_durable.store import children, database, runs

Plan = Callable[[Sequence[Recorded]], Cut]
Reopen = Callable[[WorkflowRun, Plan, str], UUID]

REASON = "Its parent was reset."


def carry_children(
    scheduled: Sequence[Recorded], parent_run: UUID, *, reopen: Reopen, plan: Plan
) -> Iterator[messages.Message]:
    """Make these children, by their ChildScheduled, the new run's own; yields the answers of those that have ended."""
    for one in scheduled:
        event: Any = one.event
        child = runs.latest_of_chain(event.run_id)
        if child is None:
            continue  # its start is still to be made
        if child.status in CLOSED and not _goes_on(child, reopen, plan):
            yield _answer(event.key, child)
            continue
        open_ = runs.rows().filter(chain_id=child.chain_id, open_workflow_id__isnull=False)
        open_.update(parent_run_id=parent_run)
        if child.status in CLOSED:
            open_.filter(parent_close=children.TOLD).update(parent_close=event.parent_close)


def _goes_on(child: WorkflowRun, reopen: Reopen, plan: Plan) -> bool:
    """Let a child that has failed, or was ended by its parent's end, go on. False: it stays as it is."""
    if child.status not in (Status.FAILED, Status.TIMED_OUT, Status.TERMINATED):
        return False
    try:
        with database.writing():
            reopen(child, plan if child.status != Status.TERMINATED else _where_it_was, REASON)
    except DurableError:  # its workflow id belongs to another run by now, for example
        return False
    return True


def _where_it_was(recorded: Sequence[Recorded]) -> Cut:
    return cuts.cut(recorded, recorded[-1].sequence, again=False, reapply_signals=True)


def _answer(key: str, child: WorkflowRun) -> messages.ChildResult:
    return messages.ChildResult(
        key=key,
        status=child.status,
        result=payload.load(child.result) if child.result is not None else None,
        failure=msgspec.json.decode(child.failure, type=Failure) if child.failure is not None else None,
    )
