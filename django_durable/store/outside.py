"""Ends that are written without running the workflow's code: its deadline has passed, or it never began."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec
from django.db.models import QuerySet

from django_durable.history import events, messages
from django_durable.history.failures import Failure
from django_durable.history.status import Status
from django_durable.models import WorkflowRun
from django_durable.store import dispatch, history, inbox, leases, runs


class Fates(NamedTuple):
    """What became of chains that were to end: those that did, with their status, and those that are busy for now.

    The others are not the worker's any more.
    """

    ended: dict[UUID, Status]
    busy: set[UUID]


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


def cancel_delayed(chain_id: UUID, reason: str) -> UUID | None:
    """End a run that is still to begin, in the caller's transaction; its id, or None: it begins, or is busy."""
    locked = dispatch.locked_for_end([chain_id])
    if chain_id not in locked or not dispatch.is_delayed(chain_id):
        return None
    run_id, _, _ = locked[chain_id]
    _write([(chain_id, run_id, _cancelled_for(chain_id, reason))])
    return run_id


def _end(worker: int, claims: Sequence[dispatch.Claimed], end_of: _EndOf) -> Fates:
    mine = {claimed.chain_id: claimed for claimed in claims}
    with leases.fenced(worker):
        had = dispatch.locked_for_end(mine)
        there = dispatch.existing(mine.keys() - had.keys()) if len(had) < len(mine) else set()
        ours = [one for chain, one in mine.items() if had.get(chain) == (one.run_id, worker, one.epoch)]
        rows = _rows([one.run_id for one in ours]).in_bulk()
        ends = [(one.chain_id, one.run_id, end_of(one, rows[one.run_id])) for one in ours]
        _write(ends)
    return Fates({chain: end.status for chain, _, end in ends}, there)


def _write(ends: Sequence[tuple[UUID, UUID, _End]]) -> None:
    """The events and the ends, for chains that are locked for their end."""
    history.append(history.after_last([(run_id, end.event) for _, run_id, end in ends]))
    runs.close(
        [
            runs.Ending(chain_id, run_id, end.status, failure=msgspec.json.encode(end.failure).decode())
            for chain_id, run_id, end in ends
        ]
    )


def _rows(run_ids: Sequence[UUID]) -> QuerySet[WorkflowRun]:
    return runs.rows().filter(pk__in=run_ids).defer("input")


def _timed_out(claimed: dispatch.Claimed, run: WorkflowRun) -> _End:
    if claimed.deadline is not None and claimed.deadline == run.execution_deadline:
        which, message = "execution_timeout", "The workflow did not end within its execution_timeout."
    else:
        which, message = "run_timeout", f"The run did not end within its run_timeout of {run.run_timeout}."
    return _End(events.RunTimedOut(timeout=which), Status.TIMED_OUT, Failure(type="TimeoutError", message=message))


def _cancelled(claimed: dispatch.Claimed, run: WorkflowRun) -> _End:
    return _cancelled_for(claimed.chain_id)


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
