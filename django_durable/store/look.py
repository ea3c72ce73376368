"""One look at the database: everything that a worker can take on now, in one short transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django_durable.definitions.queue import ACTIVITIES, WORKFLOWS
from django_durable.store import (
    admission,
    claims,
    database,
    dispatch,
    inbox,
    leases,
    levels,
    paused_workflows,
    queues,
    tasks,
)
from django_durable.store.queues import Governed


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a worker can take on. Limits of 0: nothing of that kind now.

    ``known`` are levels that earlier looks have found: they are tried first, and spare the search for levels.
    """

    worker: int
    queues: tuple[str, ...]
    definitions: Collection[str]
    runs: int
    suspects: int
    activities: tuple[tuple[tuple[str, ...], int], ...]  # names and limit, per kind of executor
    messages: bool
    known: levels.Levels = levels.NONE
    paused: frozenset[str] | None = None  # names of workflows whose runs are not taken; None: to be read
    governed: Governed | None = None  # the rules of queues that have some; None: to be read
    search: bool = True  # for levels, even if the known ones had something

    @property
    def tasks(self) -> int:
        return max((limit for names, limit in self.activities if names), default=0)


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a look found. ``levels``: all that it saw, if it searched; ``next_due``: when the next sleeper wakes up."""

    time: datetime | None = None
    runs: list[claims.Claimed] = field(default_factory=list)
    tasks: list[tasks.ClaimedTask] = field(default_factory=list)
    messages_for: set[UUID] = field(default_factory=set)
    ending: set[UUID] = field(default_factory=set)  # chains that nobody has, and that end without their code
    levels: levels.Levels | None = None
    next_due: datetime | None = None
    suspects: bool = False  # a run that must be claimed alone is due, and this worker is not alone with it
    left_runs: bool = False  # more may be due than there was room for
    left_tasks: bool = False
    tick: bool = False  # a schedule is due, or a time limit has passed
    paused: frozenset[str] = frozenset()  # names of workflows whose runs were not taken
    governed: Governed = field(default_factory=lambda: queues.NONE)
    held_back: dict[str, datetime | None] = field(default_factory=dict)
    """Queues whose limits had something wait, and when they may let in more; None: when something has ended."""
    again_at: datetime | None = None  # when a queue may let in more

    def take(self, queue: str, admitted: admission.Admitted) -> list[Any]:
        """Note what a governed queue has let in, and when to ask it again; returns what that was."""
        if admitted.held_back:
            self.held_back[queue] = _earlier(self.held_back.get(queue), admitted.again_at)
        self.again_at = _earlier(self.again_at, admitted.again_at)
        return admitted.claimed

    @property
    def anything(self) -> bool:
        return bool(self.runs or self.tasks or self.messages_for)


def _earlier(*moments: datetime | None) -> datetime | None:
    """The earliest; None: there is none."""
    return min((moment for moment in moments if moment is not None), default=None)


def look(wanted: Wanted) -> Seen:
    """Claim due runs and tasks and find runs of ours that have messages. Raises ``WorkerFenced``.

    The fence is taken before the first claim only: a look that finds nothing writes nothing.
    """
    seen = Seen()
    with database.limiting(), database.writing(durable=True):
        seen.paused = paused_workflows.names() if wanted.paused is None else wanted.paused
        if seen.paused:
            wanted = replace(wanted, definitions=dispatch.apart_from(wanted.definitions, seen.paused))
        wanted = _apart_from_paused(wanted, seen)
        _claim(wanted, wanted.known.chains, wanted.known.tasks, seen)
        if wanted.search or not (seen.runs or seen.tasks):
            _search(wanted, seen)
        if wanted.messages:
            awaited = inbox.awaited(wanted.worker)
            seen.messages_for, seen.ending = awaited.mine, awaited.ending
            if awaited.nobodys:
                leases.prove_alive(wanted.worker, flushed=False)
                seen.left_runs |= bool(dispatch.make_due(awaited.nobodys))
    seen.next_due = _earlier(seen.next_due, seen.again_at)
    return seen


def _apart_from_paused(wanted: Wanted, seen: Seen) -> Wanted:
    """What is wanted, without the queues that are paused."""
    seen.governed = queues.read() if wanted.governed is None else wanted.governed
    paused = {name for name, rules in seen.governed.items() if rules.paused}
    if not paused:
        return wanted
    known = levels.Levels(
        [level for level in wanted.known.chains if level.queue not in paused],
        [level for level in wanted.known.tasks if level.queue not in paused],
        wanted.known.time,
    )
    return replace(wanted, queues=tuple(one for one in wanted.queues if one not in paused), known=known)


def _search(wanted: Wanted, seen: Seen) -> None:
    """Find the levels in use, and claim from those that were not known."""
    found = levels.probe(wanted.queues)
    seen.levels, seen.time = found, seen.time or found.time
    due_chains = [level for level in found.chains if level.earliest <= found.time]
    due_tasks = [level for level in found.tasks if level.earliest <= found.time]
    _claim(wanted, _apart_from(wanted.known.chains, due_chains), _apart_from(wanted.known.tasks, due_tasks), seen)
    if due_chains and len(seen.runs) < wanted.runs:
        _claim_suspect(wanted, due_chains, seen)
    seen.left_runs = seen.left_runs or bool(due_chains and not wanted.runs)
    seen.left_tasks = seen.left_tasks or bool(due_tasks and not wanted.tasks)
    sweeps = [moment for moment in (found.next_tick, found.next_expiry) if moment is not None]
    seen.tick = any(moment <= found.time for moment in sweeps)
    behind = levels.next_of(found, seen.held_back) if seen.held_back else ()  # what waits for a place hides them
    moments = [level.earliest for level in (*found.chains, *found.tasks, *behind)]
    moments += sweeps
    seen.next_due = min((moment for moment in moments if moment > found.time), default=None)


def _apart_from(known: Sequence[levels.Level], found: list[levels.Level]) -> list[levels.Level]:
    places = {level.place for level in known}
    return [level for level in found if level.place not in places]


def _claim(wanted: Wanted, chains: Sequence[levels.Level], waiting: Sequence[levels.Level], seen: Seen) -> None:
    if (chains and wanted.runs) or (waiting and wanted.tasks):
        seen.time = leases.prove_alive(wanted.worker, flushed=False).time
        _claim_runs(wanted, chains, seen)
        _claim_tasks(wanted, waiting, seen)


def _claim_runs(wanted: Wanted, due: Sequence[levels.Level], seen: Seen) -> None:
    for level in due:
        left = wanted.runs - len(seen.runs)
        if left > 0:
            seen.runs += _claim_chains(wanted, level, left, seen)
    seen.left_runs = bool(due) and len(seen.runs) >= wanted.runs


def _claim_chains(wanted: Wanted, level: levels.Level, limit: int, seen: Seen) -> list[claims.Claimed]:
    rules = seen.governed.get(level.queue)
    if rules is None or not rules.options.governs(WORKFLOWS):
        return claims.claim(wanted.worker, level, definitions=wanted.definitions, limit=limit)
    got = admission.claim_chains(wanted.worker, level, definitions=list(wanted.definitions), limit=limit)
    return seen.take(level.queue, got)


def _claim_level(
    wanted: Wanted, level: levels.Level, names: tuple[str, ...], limit: int, seen: Seen
) -> list[tasks.ClaimedTask]:
    rules = seen.governed.get(level.queue)
    if rules is None or not rules.options.governs(ACTIVITIES):
        return tasks.claim(wanted.worker, level, names=names, limit=limit)
    return seen.take(level.queue, admission.claim_tasks(wanted.worker, level, names=names, limit=limit))


def _claim_suspect(wanted: Wanted, due: Sequence[levels.Level], seen: Seen) -> None:
    """A run that killed its workers is claimed with nothing else in hand, or waits until that is so."""
    for level in due:
        if wanted.suspects and not seen.runs:
            leases.prove_alive(wanted.worker, flushed=False)
            seen.runs += claims.claim(
                wanted.worker, level, definitions=wanted.definitions, limit=wanted.suspects, suspects=True
            )
        elif not wanted.suspects:
            seen.suspects = seen.suspects or claims.has_suspects(level)


def _claim_tasks(wanted: Wanted, due: Sequence[levels.Level], seen: Seen) -> None:
    for names, limit in wanted.activities:
        left = limit
        for level in due:
            if left > 0 and names:
                claimed = _claim_level(wanted, level, names, left, seen)
                left -= len(claimed)
                seen.tasks += claimed
        seen.left_tasks = seen.left_tasks or (bool(due) and left <= 0)
    if seen.tasks:
        database.flush_at_commit()  # an attempt counts from its claim on
