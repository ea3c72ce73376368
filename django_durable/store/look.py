"""One look at the database: everything that a worker can take on now, in one short transaction."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django_durable.store import database, dispatch, inbox, leases, tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a worker can take on. Limits of 0: nothing of that kind now."""

    worker: int
    queues: tuple[str, ...]
    definitions: Collection[str]
    runs: int
    suspects: int
    activities: tuple[tuple[tuple[str, ...], int], ...]  # names and limit, per kind of executor
    messages: bool


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a look found. ``next_due``: when the next sleeper wakes up, asked for only if there was nothing else."""

    time: datetime | None = None
    runs: list[dispatch.Claimed] = field(default_factory=list)
    tasks: list[tasks.ClaimedTask] = field(default_factory=list)
    messages_for: set[UUID] = field(default_factory=set)
    next_due: datetime | None = None

    @property
    def anything(self) -> bool:
        return bool(self.runs or self.tasks or self.messages_for)


def look(wanted: Wanted) -> Seen:
    """Claim due runs and tasks and find runs of ours that have messages. Raises ``WorkerFenced``.

    The fence is taken before the first claim only: a look that finds nothing writes nothing.
    """
    seen = Seen()
    with database.writing(durable=True):
        if wanted.messages:
            seen.messages_for, unowned = inbox.owners_of_waiting(wanted.worker)
            dispatch.make_due(unowned)
        if (wanted.runs or wanted.suspects) and any(map(dispatch.priorities, wanted.queues)):
            _claim_runs(wanted, seen)
        _claim_tasks(wanted, seen)
        if not seen.anything:
            seen.next_due = min(
                filter(None, (dispatch.next_due(wanted.queues), tasks.next_due(wanted.queues))), default=None
            )
    return seen


def _claim_runs(wanted: Wanted, seen: Seen) -> None:
    _fence(wanted, seen)
    for limit, suspects in ((wanted.runs, False), (wanted.suspects, True)):
        if limit:
            seen.runs += dispatch.claim(
                wanted.worker,
                queues=wanted.queues,
                definitions=wanted.definitions,
                limit=limit,
                suspects=suspects,
            )


def _claim_tasks(wanted: Wanted, seen: Seen) -> None:
    for names, limit in wanted.activities:
        if limit and names and any(map(tasks.priorities, wanted.queues)):
            _fence(wanted, seen)
            seen.tasks += tasks.claim(wanted.worker, queues=wanted.queues, names=names, limit=limit)


def _fence(wanted: Wanted, seen: Seen) -> None:
    if seen.time is None:
        seen.time = leases.prove_alive(wanted.worker).time
