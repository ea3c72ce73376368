"""Due runs that nobody takes: no live worker has their code, or their workflow is paused.

Otherwise every claim would wade through them.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Case, F, Q, When

from django_durable.history import blocking
from django_durable.querysets import DispatchQuerySet
from django_durable.store import claims, clock, database, dispatch, levels, locks, runs

BATCH = 5_000
LONG_PAUSE = timedelta(hours=1)  # a worker that has the code takes them at once
BLOCKED_BY = "no worker"  # in the place of the code that could not


class Untaken(NamedTuple):
    """Due runs of a definition that no live worker has; ``blocked``: those of which it was not known."""

    definition: str
    due: int
    blocked: list[UUID]


class _Row(NamedTuple):
    chain_id: UUID
    run_id: UUID
    definition: str
    hold: str | None
    blocked_by: str | None

    @property
    def is_known(self) -> bool:
        """Whether it is blocked for want of code already."""
        return self.hold == dispatch.BLOCKED and self.blocked_by == BLOCKED_BY

    @property
    def is_news(self) -> bool:
        """Whether it is to be blocked for want of code."""
        return self.hold not in (dispatch.BLOCKED, dispatch.PAUSED)


def push_back(definitions: Collection[str], *, paused: Collection[str] = ()) -> list[Untaken]:
    """Push back due chains that are of none of these definitions, or of ``paused`` workflows.

    Runs without code are blocked until a worker has it; those of paused workflows only wait. Level by level, so that
    what is due is read and what sleeps is not.
    """
    taken = dispatch.apart_from(definitions, paused)
    untaken: list[Untaken] = []
    for level in levels.overdue():
        untaken += _push_level(claims.due(level.queue, level.priority).exclude(definition__in=taken), paused)
    return _merged(untaken)


def _merged(untaken: Collection[Untaken]) -> list[Untaken]:
    """One for each definition."""
    merged: dict[str, Untaken] = {}
    for one in untaken:
        before = merged.get(one.definition, Untaken(one.definition, 0, []))
        merged[one.definition] = Untaken(one.definition, before.due + one.due, before.blocked + one.blocked)
    return [merged[definition] for definition in sorted(merged)]


def _push_level(due: DispatchQuerySet, paused: Collection[str]) -> list[Untaken]:
    with database.sweeping():
        found = [_Row(*row) for row in locks.first(due.values_list(*_Row._fields), BATCH)]
        missing = [row for row in found if row.definition.partition("\t")[0] not in paused]
        news = [row for row in missing if row.is_news]
        known = [row for row in missing if row.is_known]
        rest = {*found} - {*news, *known}
        _push(news, dispatch.NO_WORKER_PAUSE, hold=dispatch.BLOCKED, blocked_by=BLOCKED_BY)
        _push(known, LONG_PAUSE)
        _push(rest, dispatch.NO_WORKER_PAUSE)
        for definition in {row.definition for row in news}:
            runs.block_all([row.run_id for row in news if row.definition == definition], blocking.missing(definition))
    return [
        Untaken(
            definition,
            sum(row.definition == definition for row in missing),
            [row.run_id for row in news if row.definition == definition],
        )
        for definition in {row.definition for row in missing}
    ]


def _push(rows: Collection[_Row], delay: timedelta, **changes: Any) -> None:
    if rows:
        again = clock.plus(clock.now(), delay)
        sooner = Q(deadline__lt=again, deadline__gt=clock.now())
        wakeup = Case(When(sooner, then=F("deadline")), default=again)
        dispatch.rows().filter(pk__in=[row.chain_id for row in rows]).update(wakeup_at=wakeup, **changes)
