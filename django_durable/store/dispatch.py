"""Who works on which open chain: claim, release, make due, hold."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db.models import Case, F, OuterRef, Q, Subquery, When
from django.db.models.functions import Coalesce

from django_durable.models import Dispatch, WorkflowRun
from django_durable.querysets import DispatchQuerySet
from django_durable.store import clock, database, levels

DELAYED = "delayed"  # hold of a run that has not begun: messages do not wake it
BLOCKED = "blocked"  # hold of a run that waits for other code
PAUSED = "paused"  # hold of a run that rests until somebody lets it go on
HOLDS = (DELAYED, BLOCKED, PAUSED)
SUSPECT_AFTER = 2  # recoveries without progress after which a run is claimed alone
PARK_AFTER = 5  # recoveries without progress after which a run is parked
NO_WORKER_PAUSE = timedelta(seconds=30)  # before a run is looked at again whose code no live worker has
SWEPT = 5_000  # chains that a sweep changes in one transaction


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

    def follows(self, earlier: Claimed) -> bool:
        """Whether nobody has had the chain between that claim and this one."""
        same = (self.chain_id, self.run_id, self.epoch - 1, self.after)
        return same == (earlier.chain_id, earlier.run_id, earlier.epoch, earlier.claimed_at)


class Release(NamedTuple):
    """How a chain is given back. ``progressed``: whether anything was written under this claim."""

    chain_id: UUID
    epoch: int
    wakeup_at: datetime | None
    progressed: bool


def apart_from(definitions: Collection[str], names: Collection[str]) -> set[str]:
    """Those of these definitions, each a name with a version if it has one, that have none of these names."""
    return {one for one in definitions if one.partition("\t")[0] not in names}


def rows() -> DispatchQuerySet:
    return Dispatch.objects.using(database.alias())


def existing(chain_ids: Collection[UUID]) -> set[UUID]:
    """Which of these chains are still open, as a plain read sees it."""
    return set(rows().filter(pk__in=chain_ids).values_list("pk", flat=True))


def place(chain_id: UUID) -> tuple[int | None, str] | None:
    """The owner and the queue of an open chain."""
    return rows().filter(pk=chain_id).values_list("owner", "queue").first()


def locked_for_end(
    chain_ids: Collection[UUID], *, against_senders: bool = True
) -> dict[UUID, tuple[UUID, int | None, int]]:
    """Lock chains as only their end, or the last word on an atomic activity, may: (run, owner, epoch) by chain.

    Chains that somebody else has locked are left out: nobody waits here. ``against_senders`` False: for the end of a
    run that another one follows, to which messages go as well.
    """
    if not chain_ids:
        return {}
    places, params = database.keys(chain_ids)
    strength = "FOR UPDATE" if against_senders else "FOR NO KEY UPDATE"
    lock = f"{strength} SKIP LOCKED" if database.is_postgres() else ""
    found = database.select(
        f"SELECT chain_id, run_id, owner, epoch FROM {Dispatch._meta.db_table} "
        f"WHERE chain_id IN ({places}) ORDER BY chain_id {lock}",
        params,
    )
    return {database.as_uuid(chain): (database.as_uuid(run), owner, epoch) for chain, run, owner, epoch in found}


def shared(chain_ids: Collection[UUID]) -> dict[UUID, tuple[int | None, int]]:
    """Lock chains against their end only, skipping those that are ending: (owner, epoch) by chain."""
    found = database.key_share(
        rows().filter(pk__in=chain_ids).order_by("pk").values_list("pk", "owner", "epoch"), skip_locked=True
    )
    return {database.as_uuid(chain): (owner, epoch) for chain, owner, epoch in found}


def due(queue: str, priority: int) -> DispatchQuerySet:
    """The hot query: due chains of one queue and priority, the longest due first."""
    return rows().unowned().filter(queue=queue, priority=priority, wakeup_at__lte=clock.now()).order_by("wakeup_at")


def claim(
    worker: int, level: levels.Level, *, definitions: Collection[str], limit: int, suspects: bool = False
) -> list[Claimed]:
    """Make up to ``limit`` due chains of one level ours, the longest due first.

    ``hold`` is not looked at: due is due. ``suspects`` asks for those that were recovered without progress instead.
    """
    recoveries = Q(recoveries__gte=SUSPECT_AFTER) if suspects else Q(recoveries__lt=SUSPECT_AFTER)
    found = (
        due(level.queue, level.priority)
        .filter(recoveries, definition__in=definitions)
        .select_for_update(skip_locked=True, no_key=True)
    )
    claimed = _claim_at_once(worker, found, limit) if database.is_postgres() else _claim_each(worker, found, limit)
    return [_claimed(row) for row in claimed]


def _claimed(row: Sequence[Any]) -> Claimed:
    """A claim from its row as the driver gives it."""
    values: list[Any] = [clock.as_moment(value) if isinstance(value, datetime) else value for value in row[2:]]
    return Claimed(database.as_uuid(row[0]), database.as_uuid(row[1]), *values)


_CLAIM = f"""
WITH due AS MATERIALIZED ({{due}})
UPDATE {Dispatch._meta.db_table} AS chain
SET owner = %s, epoch = chain.epoch + 1, claimed_at = {{now}}, started_at = COALESCE(chain.started_at, {{now}})
FROM due JOIN {WorkflowRun._meta.db_table} AS run ON run.id = due.run_id
WHERE chain.chain_id = due.chain_id
RETURNING chain.chain_id, chain.run_id, chain.epoch, definition, chain.queue, hold, recoveries, run.workflow_id,
    chain.claimed_at, due.claimed_at, chain.deadline, run.retry,
    COALESCE(chain.deadline <= {{now}}, false)
"""


def _claim_at_once(worker: int, found: DispatchQuerySet, limit: int) -> list[tuple[Any, ...]]:
    sql, params = found.values("chain_id", "run_id", "claimed_at")[:limit].query.sql_with_params()
    now, now_params = clock.sql()
    with database.cursor() as cursor:
        cursor.execute(_CLAIM.format(due=sql, now=now), [*params, worker, *now_params * 3])
        claimed: list[tuple[Any, ...]] = cursor.fetchall()
        return claimed


def _claim_each(worker: int, found: DispatchQuerySet, limit: int) -> list[tuple[Any, ...]]:
    run = WorkflowRun.objects.filter(pk=OuterRef("run_id"))
    claimed = list(
        found.annotate(name=Subquery(run.values("workflow_id")), policy=Subquery(run.values("retry"))).values_list(
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
        )[:limit]
    )
    now = clock.read()
    rows().filter(pk__in=[row[0] for row in claimed]).update(
        owner=worker,
        epoch=F("epoch") + 1,
        claimed_at=now,
        started_at=Coalesce("started_at", clock.value(now)),
    )
    return [
        (*row, now, after, deadline, retry, deadline is not None and deadline <= now)
        for *row, after, deadline, retry in claimed
    ]


def has_suspects(level: levels.Level) -> bool:
    """Whether a due chain of this level is one that must be claimed alone."""
    return due(level.queue, level.priority).filter(recoveries__gte=SUSPECT_AFTER).exists()


def release(worker: int, releases: Sequence[Release]) -> set[UUID]:
    """Give chains back; returns those that were. Conditional on still having them under the same claim.

    A chain whose row somebody has locked, to end it for example, is left for later: nobody waits here.
    """
    return _release_at_once(worker, releases) if database.is_postgres() else _release_each(worker, releases)


_RELEASE = f"""
WITH wanted AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%s::json)
    AS row(chain_id uuid, epoch int, wakeup_at timestamptz, progressed boolean)),
had AS MATERIALIZED (
    SELECT chain.chain_id FROM {Dispatch._meta.db_table} AS chain JOIN wanted USING (chain_id)
    WHERE chain.owner = %s AND chain.epoch = wanted.epoch
    ORDER BY chain.chain_id FOR NO KEY UPDATE OF chain SKIP LOCKED)
UPDATE {Dispatch._meta.db_table} AS chain
SET owner = NULL, wakeup_at = wanted.wakeup_at, closing = false,
    recoveries = CASE WHEN wanted.progressed THEN 0 ELSE chain.recoveries END
FROM wanted JOIN had USING (chain_id) WHERE chain.chain_id = wanted.chain_id
RETURNING chain.chain_id
"""


def _release_at_once(worker: int, releases: Sequence[Release]) -> set[UUID]:
    records = msgspec.json.encode([one._asdict() for one in releases]).decode()
    return {row[0] for row in database.select(_RELEASE, [records, worker])}


def _release_each(worker: int, releases: Sequence[Release]) -> set[UUID]:
    given = set()
    for one in releases:
        mine = rows().filter(pk=one.chain_id, owner=worker, epoch=one.epoch)
        fields = {"recoveries": 0} if one.progressed else {}
        if mine.update(owner=None, wakeup_at=one.wakeup_at, closing=False, **fields):
            given.add(one.chain_id)
    return given


def owned(worker: int) -> dict[UUID, int]:
    """The chains that a worker owns, with the epoch of its claim."""
    return dict(rows().owned_by(worker).values_list("pk", "epoch"))


def still_owned(worker: int, chain_ids: Collection[UUID]) -> set[UUID]:
    """Which of these chains a worker owns."""
    return set(rows().owned_by(worker).filter(pk__in=chain_ids).values_list("pk", flat=True))


def give_up(worker: int, chain_ids: Collection[UUID]) -> int:
    """Give back chains that were claimed without the worker's knowledge: the claim's commit got no reply."""
    return rows().filter(pk__in=chain_ids, owner=worker).update(owner=None, wakeup_at=clock.now())


def make_due(chain_ids: Collection[UUID], *, holds: Collection[str] = ()) -> int:
    """Wake chains that nobody has and nobody holds. Waits for nobody: a row that is locked is being claimed.

    ``holds``: those that are held as one of these too, for what must not wait until the hold ends.
    """
    if not chain_ids:
        return 0
    if database.is_postgres():
        return _make_due_at_once(chain_ids, holds)
    asleep = rows().filter(Q(hold__isnull=True) | Q(hold__in=holds), pk__in=chain_ids, owner__isnull=True)
    asleep = asleep.filter(Q(wakeup_at__isnull=True) | Q(wakeup_at__gt=clock.now()))
    return asleep.update(wakeup_at=clock.now())


def _make_due_at_once(chain_ids: Collection[UUID], holds: Collection[str]) -> int:
    """One statement, so that outside a transaction nothing stays locked if this process stops."""
    table = Dispatch._meta.db_table
    places, params = database.keys(chain_ids)
    now, now_params = clock.sql()
    with database.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET wakeup_at = {now} WHERE chain_id IN (SELECT chain_id FROM {table} "
            f"WHERE chain_id IN ({places}) AND owner IS NULL AND (hold IS NULL OR hold = ANY(%s)) "
            f"AND (wakeup_at IS NULL OR wakeup_at > {now}) FOR NO KEY UPDATE SKIP LOCKED)",
            [*now_params, *params, list(holds), *now_params],
        )
        return int(cursor.rowcount)


def set_closing(chain_ids: Collection[UUID], worker: int, *, closing: bool = True) -> None:
    """Ask senders to step back because these chains could not end for new messages; or let them come again."""
    rows().filter(pk__in=chain_ids, owner=worker).update(closing=closing)


def park(worker: int, chain_id: UUID, *, blocked_by: str, delay: timedelta, recoveries: int = 0) -> bool:
    """Hold a chain as blocked by the code ``blocked_by``, and give it back until ``delay`` has passed.

    ``recoveries``: those without progress that it is still reproached with when it is tried again. False: it is not
    the worker's any more, or paused.
    """
    again = clock.plus(clock.now(), delay)
    parked = (
        rows()
        .filter(Q(hold__isnull=True) | ~Q(hold=PAUSED), pk=chain_id, owner=worker)
        .update(
            owner=None,
            hold=BLOCKED,
            closing=False,
            blocked_by=blocked_by,
            recoveries=recoveries,
            wakeup_at=Case(When(deadline__lt=again, then=F("deadline")), default=again),  # LEAST, but for nulls
        )
    )
    return bool(parked)


def is_delayed(chain_id: UUID) -> bool:
    """Whether this chain's run is still to begin, and nobody is about to begin it."""
    return rows().filter(pk=chain_id, hold=DELAYED, owner__isnull=True).exists()


def delayed(chain_ids: Collection[UUID]) -> set[UUID]:
    """Which of these chains have a run that is still to begin, and that nobody is about to begin."""
    return set(rows().filter(pk__in=chain_ids, hold=DELAYED, owner__isnull=True).values_list("pk", flat=True))


def begin(worker: int, chain_ids: Collection[UUID]) -> None:
    """Take the hold off chains whose run has begun after its delay."""
    if chain_ids:
        rows().filter(pk__in=chain_ids, owner=worker, hold=DELAYED).update(hold=None)


def unblock(worker: int, chain_id: UUID) -> bool:
    """Take the hold off a blocked chain that goes on. False: it has been paused meanwhile."""
    return bool(rows().filter(pk=chain_id, owner=worker, hold=BLOCKED).update(hold=None, blocked_by=None))


def blocked_definitions() -> set[str]:
    """The definitions of which a run waits for other code."""
    return set(rows().filter(hold=BLOCKED, owner__isnull=True).values_list("definition", flat=True).distinct())


def offer_blocked(definition: str, known: Collection[str]) -> int:
    """Make due what something else has blocked than this code and this release, ``known`` as they are.

    Up to ``SWEPT`` chains; tells how many they were.
    """
    held = rows().filter(definition=definition, hold=BLOCKED, owner__isnull=True, wakeup_at__gt=clock.now())
    # Ranges of an index: "not equal" would read all that this very code has blocked. "" is never offered.
    bounds = ["", *sorted(known)]
    ranges = [
        held.filter(blocked_by__gt=lower, **({"blocked_by__lt": upper} if upper is not None else {}))
        for lower, upper in zip(bounds, [*bounds[1:], None], strict=True)
    ]
    with database.sweeping():
        found = [chain for others in ranges for chain in _unlocked(others.values_list("pk", flat=True))]
        return rows().filter(pk__in=found).update(wakeup_at=clock.now()) if found else 0


def _unlocked(wanted: Any) -> list[Any]:
    """One batch of these rows, locked; those that somebody else has locked are left for the next sweep."""
    return list(wanted.select_for_update(skip_locked=True, no_key=True)[:SWEPT])
