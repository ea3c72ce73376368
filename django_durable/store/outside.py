"""Ends that are written without running the workflow's code: its deadline has passed, or it never began."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec
from django.db.models import Q, QuerySet

from django_durable.definitions.queue import WORKFLOWS
from django_durable.history import events, messages
from django_durable.history.failures import Failure
from django_durable.history.status import Status
from django_durable.models import WorkflowRun
from django_durable.store import children, clock, dispatch, history, inbox, leases, paused_workflows, queues, runs
from django_durable.store.claims import Claimed


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


_EndOf = Callable[[Claimed, WorkflowRun], _End]


def time_out(worker: int, claims: Sequence[Claimed]) -> Fates:
    """End runs of this worker whose deadline has passed, in a transaction of its own. Raises ``WorkerFenced``."""
    return _end(worker, claims, _timed_out)


def cancel(worker: int, claims: Sequence[Claimed]) -> Fates:
    """End runs of this worker that are asked to end and have not begun. Raises ``WorkerFenced``."""
    return _end(worker, claims, _cancelled)


def terminate(worker: int, claims: Sequence[Claimed]) -> Fates:
    """End children of this worker whose parents have ended. Raises ``WorkerFenced``."""
    return _end(worker, claims, _terminated)


# Runs that nobody has, in the caller's transaction: their status by run, without those that are busy


def waiting_to_begin(chain_ids: Collection[UUID]) -> set[UUID]:
    """Chains whose run has not begun and waits for more than a free worker: its time, its turn, somebody's leave."""
    unbegun = dispatch.rows().filter(Q(hold=dispatch.DELAYED) | Q(epoch=0), pk__in=chain_ids, owner__isnull=True)
    places = list(unbegun.values_list("pk", "hold", "queue", "definition"))
    if not places:
        return set()
    taken = dispatch.apart_from({definition for _, _, _, definition in places}, paused_workflows.names())
    governed = {name for name, rules in queues.read().items() if rules.paused or rules.options.governs(WORKFLOWS)}
    return {pk for pk, hold, queue, definition in places if hold or queue in governed or definition not in taken}


def cancel_unbegun(chain_ids: Collection[UUID], reason: str) -> dict[UUID, Status]:
    """End those of these runs that are still to begin, and that nobody is about to begin."""
    had = dispatch.locked_for_end(chain_ids)
    rows = _free([run_id for run_id, _, _ in map(had.__getitem__, waiting_to_begin(had))])
    waiting = _messages(rows)
    return _end_now([(row, _cancelled_for(waiting[row.chain_id], reason)) for row in rows])


def end_asked(chain_ids: Collection[UUID]) -> dict[UUID, Status]:
    """End those of these runs that have a message which ends them without their code."""
    had = dispatch.locked_for_end(chain_ids)
    rows = _free([run_id for run_id, owner, _ in had.values() if owner is None])
    unbegun, waiting = waiting_to_begin(had), _messages(rows)
    ends = []
    for row in rows:
        kinds = {type(message) for message in waiting[row.chain_id]}
        if messages.Terminate in kinds:
            ends.append((row, _terminated_by(waiting[row.chain_id])))
        elif messages.Cancel in kinds and row.chain_id in unbegun:
            ends.append((row, _cancelled_for(waiting[row.chain_id])))
    return _end_now(ends)


def time_out_late() -> dict[UUID, Status]:
    """End runs whose deadline has passed, some of them: what is left over is for the next time."""
    had = dispatch.locked_for_end(dispatch.late())
    late = dispatch.rows().filter(pk__in=had, owner__isnull=True, deadline__lte=clock.now())
    deadlines = dict(late.values_list("run_id", "deadline"))
    return _end_now([(row, _timed_out_at(deadlines[row.pk], row)) for row in _free(list(deadlines))])


def _free(run_ids: Sequence[UUID]) -> list[WorkflowRun]:
    """These runs, without those whose parents are ending just now."""
    rows = list(_rows(run_ids))
    ending_parents = children.busy([parent for row in rows if (parent := children.parent_of(row))])
    return [row for row in rows if row.parent_chain_id not in ending_parents]


def _messages(rows: Sequence[WorkflowRun]) -> dict[UUID, list[messages.Message | messages.Unreadable]]:
    waiting = inbox.read([row.chain_id for row in rows])
    return {row.chain_id: [one.message for one in waiting[row.chain_id]] for row in rows}


def _end_now(ends: Sequence[tuple[WorkflowRun, _End]]) -> dict[UUID, Status]:
    if ends:
        _write(ends)
    return {row.pk: end.status for row, end in ends}


# Runs of a worker


def _end(worker: int, claims: Sequence[Claimed], end_of: _EndOf) -> Fates:
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
                unseen=None,
            )
            for row, end in ends
        ]
    )


def _rows(run_ids: Sequence[UUID]) -> QuerySet[WorkflowRun]:
    return runs.rows().filter(pk__in=run_ids).defer("input")


def _timed_out(claimed: Claimed, run: WorkflowRun) -> _End:
    return _timed_out_at(claimed.deadline, run)


def _timed_out_at(deadline: datetime | None, run: WorkflowRun) -> _End:
    if deadline is not None and deadline == run.execution_deadline:
        which, message = "execution_timeout", "The workflow did not end within its execution_timeout."
    else:
        which, message = "run_timeout", f"The run did not end within its run_timeout of {run.run_timeout}."
    return _End(events.RunTimedOut(timeout=which), Status.TIMED_OUT, Failure(type="TimeoutError", message=message))


def _cancelled(claimed: Claimed, run: WorkflowRun) -> _End:
    return _cancelled_for(_messages([run])[claimed.chain_id])


def _terminated(claimed: Claimed, run: WorkflowRun) -> _End:
    return _terminated_by(_messages([run])[claimed.chain_id])


_Waiting = Sequence[messages.Message | messages.Unreadable]


def _terminated_by(waiting: _Waiting) -> _End:
    reason = next((message.reason for message in waiting if isinstance(message, messages.Terminate)), "")
    return _End(events.RunTerminated(reason=reason), Status.TERMINATED, Failure(type="Terminated", message=reason))


def _cancelled_for(waiting: _Waiting, reason: str | None = None) -> _End:
    """``reason`` None: that of the request in the inbox."""
    reasons = [message.reason for message in waiting if isinstance(message, messages.Cancel)]
    why = reason if reason is not None else next(iter(reasons), "")
    unhandled = tuple(message.name for message in waiting if isinstance(message, messages.Signal))
    return _End(
        events.RunCancelled(reason=why, unhandled=unhandled, began=False),
        Status.CANCELLED,
        Failure(type="CancelledError", message=why),
    )
