"""Claims: due chains are made a worker's own, under an epoch that counts them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from django_durable.models import Dispatch, WorkflowRun
from django_durable.querysets import DispatchQuerySet
from django_durable.store import clock, database, dispatch, levels, locks

SUSPECT_AFTER = 2  # recoveries without progress after which a run is claimed alone
PARK_AFTER = 5  # recoveries without progress after which a run is parked


class Claimed(NamedTuple):
    """A chain that is ours now, under ``epoch``.

    ``claimed_at`` tells claims of the same epoch apart: a server that crashed may have forgotten the one before, and
    made it again for somebody else. ``after`` is the moment of the claim before this one. ``expired``: the deadline
    had passed when the chain was claimed. ``retry``: the policy by which the run is tried again if it fails.
    """

    chain_id: UUID
    run_id: UUID
    epoch: int
    definition: str
    queue: str
    hold: str | None
    recoveries: int
    workflow_id: str
    claimed_at: datetime
    after: datetime | None
    deadline: datetime | None
    retry: str | None
    expired: bool
    partition_key: str = ""

    def follows(self, earlier: Claimed) -> bool:
        """Whether nobody has had the chain between that claim and this one."""
        same = (self.chain_id, self.run_id, self.epoch - 1, self.after)
        return same == (earlier.chain_id, earlier.run_id, earlier.epoch, earlier.claimed_at)


def due(queue: str, priority: int) -> DispatchQuerySet:
    """The hot query: due chains of one queue and priority, the longest due first."""
    return (
        dispatch.rows()
        .unowned()
        .filter(queue=queue, priority=priority, wakeup_at__lte=clock.now())
        .order_by("wakeup_at")
    )


def claim(
    worker: int,
    level: levels.Level,
    *,
    definitions: Collection[str],
    limit: int,
    suspects: bool = False,
    admitted: bool | None = None,
    among: Collection[Any] | None = None,
) -> list[Claimed]:
    """Make up to ``limit`` due chains of one level ours, the longest due first.

    ``hold`` is not looked at: due is due. ``suspects`` asks for those that were recovered without progress instead.
    ``admitted`` asks for those that their queue has let in, or, False, for others, which are let in by this;
    ``among``: for those alone that have one of these ids.
    """
    choice = _Choice(suspects, admitted, among)
    if database.is_postgres():
        claimed = _claim_at_once(worker, level, definitions, limit, choice)
    else:
        found = due(level.queue, level.priority).filter(choice.condition, definition__in=definitions)
        claimed = _claim_each(worker, found, limit, admits=choice.admits)
    return [_claimed(row) for row in claimed]


class _Choice(NamedTuple):
    """Which of the due chains are wanted."""

    suspects: bool
    admitted: bool | None
    among: Collection[Any] | None

    @property
    def admits(self) -> bool:
        """Whether the claim lets in what it gets."""
        return self.admitted is False

    @property
    def condition(self) -> Q:
        wanted = Q(recoveries__gte=SUSPECT_AFTER) if self.suspects else Q(recoveries__lt=SUSPECT_AFTER)
        if self.admitted is not None:
            wanted &= Q(admitted=self.admitted)
        return wanted if self.among is None else wanted & Q(pk__in=self.among)

    @property
    def sql(self) -> str:
        """What the statement says beyond what every claim says; ``among`` is its one parameter."""
        words = {None: "", True: "AND admitted", False: "AND NOT admitted"}
        return words[self.admitted] + ("" if self.among is None else " AND chain_id = ANY(%s)")


def _claimed(row: Sequence[Any]) -> Claimed:
    """A claim from its row as the driver gives it."""
    values: list[Any] = [clock.as_moment(value) if isinstance(value, datetime) else value for value in row[2:]]
    return Claimed(database.as_uuid(row[0]), database.as_uuid(row[1]), *values)


_CLAIM = f"""
WITH due AS MATERIALIZED (
    SELECT chain_id, run_id, claimed_at FROM {Dispatch._meta.db_table}
    WHERE owner IS NULL AND queue = %s AND priority = %s AND wakeup_at IS NOT NULL AND wakeup_at <= {{begun}}
        AND (recoveries >= {SUSPECT_AFTER}) = %s AND definition = ANY(%s) {{choice}}
    ORDER BY wakeup_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED)
UPDATE {Dispatch._meta.db_table} AS chain
SET owner = %s, epoch = chain.epoch + 1, claimed_at = {{now}}, started_at = COALESCE(chain.started_at, {{now}})
    {{admits}}
FROM due JOIN {WorkflowRun._meta.db_table} AS run ON run.id = due.run_id
WHERE chain.chain_id = due.chain_id
RETURNING chain.chain_id, chain.run_id, chain.epoch, definition, chain.queue, hold, recoveries, run.workflow_id,
    chain.claimed_at, due.claimed_at, chain.deadline, run.retry,
    COALESCE(chain.deadline <= {{now}}, false), chain.partition_key
"""


def _claim_at_once(
    worker: int, level: levels.Level, definitions: Collection[str], limit: int, choice: _Choice
) -> list[tuple[Any, ...]]:
    """One statement, written by hand: every wake-up waits for it."""
    now, moment = clock.sql()
    begun, _ = clock.sql(indexed=True)
    among = [] if choice.among is None else [list(choice.among)]
    chosen = [level.queue, level.priority, *moment, choice.suspects, list(definitions), *among, limit]
    admits = ", admitted = true" if choice.admits else ""
    sql = _CLAIM.format(now=now, begun=begun, choice=choice.sql, admits=admits)
    return database.select(sql, [*chosen, worker, *moment * 3])


def _claim_each(worker: int, found: DispatchQuerySet, limit: int, *, admits: bool) -> list[tuple[Any, ...]]:
    run = WorkflowRun.objects.filter(pk=OuterRef("run_id"))
    named = found.annotate(name=Subquery(run.values("workflow_id")), policy=Subquery(run.values("retry")))
    columns = named.values_list(
        "pk",
        "run_id",
        F("epoch") + 1,
        "definition",
        "queue",
        "hold",
        "recoveries",
        "name",
        "claimed_at",
        "deadline",
        "policy",
        "partition_key",
    )
    claimed = locks.first(columns, limit)
    now = clock.read()
    dispatch.rows().filter(pk__in=[row[0] for row in claimed]).update(
        owner=worker,
        epoch=F("epoch") + 1,
        claimed_at=now,
        started_at=Coalesce("started_at", clock.value(now)),
        **({"admitted": True} if admits else {}),
    )
    return [
        (*row, now, after, deadline, retry, deadline is not None and deadline <= now, key)
        for *row, after, deadline, retry, key in claimed
    ]


def has_suspects(level: levels.Level) -> bool:
    """Whether a due chain of this level is one that must be claimed alone."""
    return due(level.queue, level.priority).filter(recoveries__gte=SUSPECT_AFTER).exists()
