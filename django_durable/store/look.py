"""One look at the database: everything that a worker can take on now, in one short transaction."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django_durable.store import database, dispatch, inbox, leases, levels, tasks


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
    """What a look found. ``next_due``: when the next sleeper wakes up."""

    time: datetime | None = None
    runs: list[dispatch.Claimed] = field(default_factory=list)
    tasks: list[tasks.ClaimedTask] = field(default_factory=list)
    messages_for: set[UUID] = field(default_factory=set)
    next_due: datetime | None = None
    suspects: bool = False  # a run that must be claimed alone is due, and this worker is not alone with it
    left_runs: bool = False  # more may be due than there was room for
    left_tasks: bool = False

    @property
    def anything(self) -> bool:
        return bool(self.runs or self.tasks or self.messages_for)


def look(wanted: Wanted, now: datetime) -> Seen:
    """Claim due runs and tasks and find runs of ours that have messages. Raises ``WorkerFenced``.

    ``now`` is an estimate of the database's time. The fence is taken before the first claim only: a look that finds
    nothing writes nothing.
    """
    seen = Seen()
    with database.writing(durable=True):
        if wanted.messages:
            seen.messages_for, unowned = inbox.owners_of_waiting(wanted.worker)
            dispatch.make_due(unowned)
        chains, waiting = levels.probe(wanted.queues)
        due_chains = [level for level in chains if level.earliest <= now]
        due_tasks = [level for level in waiting if level.earliest <= now]
        wants_tasks = any(limit for _, limit in wanted.activities)
        if (due_chains and (wanted.runs or wanted.suspects)) or (due_tasks and wants_tasks):
            seen.time = leases.prove_alive(wanted.worker).time
            _claim_runs(wanted, due_chains, seen)
            _claim_tasks(wanted, due_tasks, seen)
            if not wanted.suspects and len(seen.runs) < wanted.runs:
                seen.suspects = any(map(dispatch.has_suspects, due_chains))
        seen.left_runs = bool(due_chains) and len(seen.runs) >= wanted.runs
        seen.left_tasks = bool(due_tasks) and len(seen.tasks) >= max(
            (limit for _, limit in wanted.activities), default=0
        )
        later = [level.earliest for level in (*chains, *waiting) if level.earliest > now]
        seen.next_due = min(later, default=None)
    return seen


def _claim_runs(wanted: Wanted, due: list[levels.Level], seen: Seen) -> None:
    for limit, suspects in ((wanted.runs, False), (wanted.suspects, True)):
        left = limit
        for level in due:
            if left > 0:
                claimed = dispatch.claim(
                    wanted.worker, level, definitions=wanted.definitions, limit=left, suspects=suspects
                )
                left -= len(claimed)
                seen.runs += claimed


def _claim_tasks(wanted: Wanted, due: list[levels.Level], seen: Seen) -> None:
    for names, limit in wanted.activities:
        left = limit
        for level in due:
            if left > 0 and names:
                claimed = tasks.claim(wanted.worker, level, names=names, limit=left)
                left -= len(claimed)
                seen.tasks += claimed
