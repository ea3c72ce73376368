"""Workflows that have ended leave the tables: as whole chains, at once, so that nobody ever sees half of one.

Chains that go on may lose runs of their middle (``shorten``).

What goes at once are the narrow rows. The events, which may be many, are left as ``PrunedRun`` says, and deleted a few
at a time (``remains``). A process that dies in between leaves the rows of ``PrunedRun``: any other goes on with them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import F

from django_durable.history.status import Status
from django_durable.models import (
    ActivityOutcome,
    ActivityTask,
    InboxMessage,
    RunAttribute,
    Update,
    WorkflowRun,
)
from django_durable.store import clock, database, debounces, dispatch, locks, remains, runs

_RUNS = WorkflowRun._meta.db_table


class Place(NamedTuple):
    """Where a search goes on: behind this run."""

    closed_at: datetime
    run_id: UUID


class Run(NamedTuple):
    """What pruning needs to know of a run."""

    run_id: UUID
    chain_id: UUID
    parent_chain_id: UUID | None
    parent_run_id: UUID | None
    name: str
    status: str
    closed_at: datetime | None


class Chain(NamedTuple):
    """All runs of a chain, in the order of their start."""

    chain_id: UUID
    runs: tuple[Run, ...]

    @property
    def last(self) -> Run:
        return self.runs[-1]


def ended(name: str, status: str, before: datetime, *, after: Place | None, limit: int) -> list[Place]:
    """Runs of that name which ended in that status, before then, the oldest first. They may have followers.

    Of those that continued as new the first of a chain is left out: it stays for as long as the chain.
    """
    where, params = "", []
    if after is not None:
        where = "AND (closed_at, id) > (%s, %s)"
        params = [clock.adapt(after.closed_at), database.key_of(after.run_id)]
    found = database.select(
        f"SELECT closed_at, id FROM {_RUNS} WHERE name = %s AND status = %s AND closed_at < %s {where} "
        f"{'AND id <> chain_id' if status == Status.CONTINUED_AS_NEW else ''} ORDER BY closed_at, id LIMIT %s",
        [name, status, clock.adapt(before), *params, limit],
    )
    return [Place(clock.as_moment(closed_at), database.as_uuid(run_id)) for closed_at, run_id in found]


def names() -> list[str]:
    """All workflows that have a run which has ended."""
    return list(runs.rows().filter(closed_at__isnull=False).order_by("name").values_list("name", flat=True).distinct())


def chains_of(run_ids: Collection[UUID]) -> list[Chain]:
    """The chains of these runs."""
    ids = set(runs.rows().filter(pk__in=run_ids).values_list("chain_id", flat=True))
    return _chains(ids)


def children_of(chain_ids: Collection[UUID]) -> list[Chain]:
    """The chains that these have started as their children."""
    if not chain_ids:
        return []
    ids = set(runs.rows().filter(parent_chain_id__in=chain_ids).values_list("chain_id", flat=True))
    return _chains(ids)


def _chains(chain_ids: Collection[UUID]) -> list[Chain]:
    found: dict[UUID, list[Run]] = defaultdict(list)
    rows = runs.rows().filter(chain_id__in=chain_ids).order_by("pk")
    for row in rows.values_list("pk", "chain_id", "parent_chain_id", "parent_run_id", "name", "status", "closed_at"):
        found[row[1]].append(Run(*row))
    return [Chain(chain_id, tuple(members)) for chain_id, members in found.items()]


def still_there(run_ids: Collection[UUID]) -> set[UUID]:
    """Which of these runs there are."""
    return set(runs.rows().filter(pk__in=run_ids).values_list("pk", flat=True)) if run_ids else set()


def awaited(chain_ids: Collection[UUID]) -> set[UUID]:
    """Which of these chains are open, or have a reply that its caller may still come for."""
    waiting = Update.objects.using(database.alias()).filter(chain_id__in=chain_ids)
    kept = waiting.exclude(expires_at__lt=clock.now())
    return dispatch.existing(chain_ids) | set(kept.values_list("chain_id", flat=True))


def bury(families: Iterable[Sequence[Chain]]) -> list[Chain]:
    """Take these families of chains out of the tables, each as a whole; returns the chains that have gone.

    A family of which something has changed meanwhile, or of which somebody has locked a row, stays as it is.
    """
    families = [family for family in families if family]
    ids = [chain.chain_id for family in families for chain in family]
    with database.sweeping():
        had = _locked(ids)
        now = {chain.chain_id: chain for chain in _chains(ids)}  # as it is under the locks
        taken = awaited(ids)
        gone = [
            chain
            for family in families
            if all(_is_unchanged(chain, now, had) and chain.chain_id not in taken for chain in family)
            for chain in family
        ]
        if gone:
            _delete([chain.chain_id for chain in gone])
    return gone


def shorten(run_ids: Collection[UUID]) -> list[UUID]:
    """Take these runs out of the middle of their chains; returns those that have gone.

    What identifies a chain is its first run, and nothing refers to the others but by a bare id.
    """
    with database.sweeping():
        middle = runs.rows().filter(pk__in=run_ids, status=Status.CONTINUED_AS_NEW).exclude(pk=F("chain_id"))
        gone = list(locks.exclusively(middle).values_list("pk", flat=True))
        if gone:
            remains.leave_runs(gone)
            for model, key in ((RunAttribute, "run_id"), (WorkflowRun, "pk")):
                rows = model._default_manager.using(database.alias()).filter(**{f"{key}__in": gone})
                rows._raw_delete(database.alias())
    return gone


def _is_unchanged(chain: Chain, now: dict[UUID, Chain], had: set[UUID]) -> bool:
    return now.get(chain.chain_id) == chain and had.issuperset(run.run_id for run in chain.runs)


def _locked(chain_ids: Sequence[UUID]) -> set[UUID]:
    """Those runs of these chains that nobody else has locked, as who lets one go on does. They are locked from here."""
    rows = locks.exclusively(runs.rows().filter(chain_id__in=chain_ids))
    return set(rows.values_list("pk", flat=True))


def _delete(chain_ids: Sequence[UUID]) -> None:
    """By chain: one that has often continued as new has more runs than a statement takes parameters."""
    using = database.alias()
    remains.leave(chain_ids)
    debounces.leave(chain_ids)  # places of runs that were ended before they began
    gone = runs.rows().filter(chain_id__in=chain_ids)
    RunAttribute.objects.using(using).filter(run_id__in=gone.order_by().values("pk"))._raw_delete(using)
    for model in (ActivityOutcome, ActivityTask, InboxMessage, Update, WorkflowRun):
        model._default_manager.using(using).filter(chain_id__in=chain_ids)._raw_delete(using)
