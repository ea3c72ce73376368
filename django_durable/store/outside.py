"""Ends that are written without running the workflow's code: its deadline has passed, or it never began."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec
from django.db.models import QuerySet

from django_durable.history import events, messages
from django_durable.history.failures import Failure
from django_durable.history.status import Status
from django_durable.models import WorkflowRun
from django_durable.store import children, clock, dispatch, history, inbox, leases, runs


class Fates(NamedTuple):
    """What became of chains that were to end: those that did, with their status, and those that are busy for now.

    The others are not the worker's any more. ``told``: chains of parents.
    """

    ended: dict[UUID, Status]
    busy: set[UUID]
    told: set[UUID]


class _End(NamedTuple):
    event: events.Event
    status: Status
    failure: Failure


_EndOf = Callable[[dispatch.Claimed, WorkflowRun], _End]


def time_out(worker: int, claims: Sequence[dispatch.Claimed]) -> Fates:
    """End runs of this worker whose deadline has passed, in a transaction of its own. Raises ``WorkerFenced``."""
    return _end(worker, claims, _timed_out)


def cancel(worker: int, claims: Sequence[dispatch.Claimed]) -> Fates:
    """End runs of this worker that are asked to end and have not begun. Raises ``WorkerFenced``."""
    return _end(worker, claims, _cancelled)


def terminate(worker: int, claims: Sequence[dispatch.Claimed]) -> Fates:
    """End children of this worker whose parents have ended. Raises ``WorkerFenced``."""
    return _end(worker, claims, _terminated)


def cancel_delayed(chain_id: UUID, reason: str) -> UUID | None:
    """End a run that is still to begin, in the caller's transaction; its id, or None: it begins, or is busy."""
    locked = dispatch.locked_for_end([chain_id])
    if chain_id not in locked or not dispatch.is_delayed(chain_id):
        return None
    run_id, _, _ = locked[chain_id]
    row = _rows([run_id]).get()
    if _parent_is_busy(row):
        return None
    _write([(row, _cancelled_for(chain_id, reason))])
    return run_id


def time_out_untaken(chain_ids: Collection[UUID]) -> int:
    """End runs that nobody has and whose deadline has passed, in the caller's transaction; how many were not busy."""
    had = dispatch.locked_for_end(chain_ids)
    late = dispatch.rows().filter(pk__in=had, owner__isnull=True, deadline__lte=clock.now())
    deadlines = dict(late.values_list("run_id", "deadline"))
    rows = [row for row in _rows(list(deadlines)) if not _parent_is_busy(row)]
    _write([(row, _timed_out_at(deadlines[row.pk], row)) for row in rows])
    return len(rows)


def _parent_is_busy(row: WorkflowRun) -> bool:
    parent = children.parent_of(row)
    return parent is not None and bool(children.busy([parent]))


def _end(worker: int, claims: Sequence[dispatch.Claimed], end_of: _EndOf) -> Fates:
    mine = {claimed.chain_id: claimed for claimed in claims}
    with leases.fenced(worker):
        had = dispatch.locked_for_end(mine)
        there = dispatch.existing(mine.keys() - had.keys()) if len(had) < len(mine) else set()
        ours = [one for chain, one in mine.items() if had.get(chain) == (one.run_id, worker, one.epoch)]
        rows = _rows([one.run_id for one in ours]).in_bulk()
        ending_parents = children.busy([parent for row in rows.values() if (parent := children.parent_of(row))])
        there |= {row.chain_id for row in rows.values() if row.parent_chain_id in ending_parents}
        ends = [(rows[one.run_id], end_of(one, rows[one.run_id])) for one in ours if one.chain_id not in there]
        told = _write(ends)
    return Fates({row.chain_id: end.status for row, end in ends}, there, told)


def _write(ends: Sequence[tuple[WorkflowRun, _End]]) -> set[UUID]:
    """The events and the ends, for chains that are locked for their end; returns the chains of parents told."""
    history.append(history.after_last([(row.pk, end.event) for row, end in ends]))
    return runs.close(
        [
            runs.Ending(
                row.chain_id,
                row.pk,
                end.status,
                failure=msgspec.json.encode(end.failure).decode(),
                parent=children.parent_of(row),
            )
            for row, end in ends
        ]
    )


def _rows(run_ids: Sequence[UUID]) -> QuerySet[WorkflowRun]:
    return runs.rows().filter(pk__in=run_ids).defer("input")


def _timed_out(claimed: dispatch.Claimed, run: WorkflowRun) -> _End:
    return _timed_out_at(claimed.deadline, run)


def _timed_out_at(deadline: datetime | None, run: WorkflowRun) -> _End:
    if deadline is not None and deadline == run.execution_deadline:
        which, message = "execution_timeout", "The workflow did not end within its execution_timeout."
    else:
        which, message = "run_timeout", f"The run did not end within its run_timeout of {run.run_timeout}."
    return _End(events.RunTimedOut(timeout=which), Status.TIMED_OUT, Failure(type="TimeoutError", message=message))


def _cancelled(claimed: dispatch.Claimed, run: WorkflowRun) -> _End:
    return _cancelled_for(claimed.chain_id)


def _terminated(claimed: dispatch.Claimed, run: WorkflowRun) -> _End:
    waiting = [one.message for one in inbox.read([claimed.chain_id])[claimed.chain_id]]
    reason = next((message.reason for message in waiting if isinstance(message, messages.Terminate)), "")
    return _End(events.RunTerminated(reason=reason), Status.TERMINATED, Failure(type="Terminated", message=reason))


def _cancelled_for(chain_id: UUID, reason: str | None = None) -> _End:
    """``reason`` None: that of the request in the inbox."""
    waiting = [one.message for one in inbox.read([chain_id])[chain_id]]
    reasons = [message.reason for message in waiting if isinstance(message, messages.Cancel)]
    why = reason if reason is not None else next(iter(reasons), "")
    unhandled = tuple(message.name for message in waiting if isinstance(message, messages.Signal))
    return _End(
        events.RunCancelled(reason=why, unhandled=unhandled, began=False),
        Status.CANCELLED,
        Failure(type="CancelledError", message=why),
    )
