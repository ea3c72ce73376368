"""Who works on which open chain: who may lock it, release, make due, hold. How one is claimed is in ``claims``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db.models import Case, F, Q, When

from django_durable.models import Dispatch
from django_durable.querysets import DispatchQuerySet
from django_durable.store import clock, database, gates, locks

DELAYED = "delayed"  # hold of a run that has not begun: messages do not wake it
BLOCKED = "blocked"  # hold of a run that waits for other code
PAUSED = "paused"  # hold of a run that rests until somebody lets it go on
HOLDS = (DELAYED, BLOCKED, PAUSED)
NO_WORKER_PAUSE = timedelta(seconds=30)  # before a run is looked at again whose code no live worker has
SWEPT = 5_000  # chains that a sweep changes in one transaction


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
    if gates.are_used() and against_senders and chain_ids:
        chain_ids = gates.shut(chain_ids)
    if not chain_ids:
        return {}
    places, params = database.keys(chain_ids)
    found = database.select(
        f"SELECT chain_id, run_id, owner, epoch FROM {Dispatch._meta.db_table} {locks.by_key()} "
        f"WHERE chain_id IN ({places}) ORDER BY chain_id " + locks.change_lock(against_senders=against_senders),
        params,
    )
    return {database.as_uuid(chain): (database.as_uuid(run), owner, epoch) for chain, run, owner, epoch in found}


def shared(chain_ids: Collection[UUID]) -> dict[UUID, tuple[int | None, int]]:
    """Lock chains against their end only, skipping those that are ending: (owner, epoch) by chain."""
    if not chain_ids:
        return {}
    wanted = rows().filter(pk__in=chain_ids).order_by("pk").values_list("pk", "owner", "epoch")
    if gates.are_used():
        held = gates.held_open(chain_ids, skip_locked=True)
        return {chain: (owner, epoch) for chain, owner, epoch in wanted if chain in held}
    found = locks.key_share(wanted, skip_locked=True)
    return {database.as_uuid(chain): (owner, epoch) for chain, owner, epoch in found}


def reach(chain_id: UUID, *, impatient: bool) -> bool:
    """Lock a chain against its end only, waiting for who is just ending it. False: it has ended, or is about to.

    A closing chain is locked by the ``impatient`` only: that would be what keeps it from ending.
    """
    wanted = rows().filter(pk=chain_id) if impatient else rows().filter(pk=chain_id, closing=False)
    if gates.are_used():
        return wanted.exists() and bool(gates.held_open([chain_id]))
    return bool(locks.key_share(wanted.values_list("pk")))


def release(worker: int, releases: Sequence[Release]) -> set[UUID]:
    """Give chains back; returns those that were. Conditional on still having them under the same claim.

    A chain whose row somebody has locked, to end it for example, is left for later: nobody waits here. One that was
    paused without its owner having heard of it is due at once, so that the next owner notes the pause.
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
SET owner = NULL, wakeup_at = CASE WHEN chain.hold = '{PAUSED}' THEN {{now}} ELSE wanted.wakeup_at END, closing = false,
    recoveries = CASE WHEN wanted.progressed THEN 0 ELSE chain.recoveries END
FROM wanted JOIN had USING (chain_id) WHERE chain.chain_id = wanted.chain_id
RETURNING chain.chain_id
"""


def _release_at_once(worker: int, releases: Sequence[Release]) -> set[UUID]:
    records = msgspec.json.encode([one._asdict() for one in releases]).decode()
    now, params = clock.sql()
    return {row[0] for row in database.select(_RELEASE.format(now=now), [records, worker, *params])}


def _release_each(worker: int, releases: Sequence[Release]) -> set[UUID]:
    had = locked_for_end([one.chain_id for one in releases], against_senders=False)
    given = set()
    for one in releases:
        if one.chain_id not in had:
            continue
        mine = rows().filter(pk=one.chain_id, owner=worker, epoch=one.epoch)
        fields = {"recoveries": 0} if one.progressed else {}
        wakeup: Any = Case(When(hold=PAUSED, then=clock.now()), default=clock.value(one.wakeup_at))
        if mine.update(owner=None, wakeup_at=wakeup, closing=False, **fields):
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
    if database.is_mariadb():
        return _make_due_by_join(chain_ids, holds)
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


def _make_due_by_join(chain_ids: Collection[UUID], holds: Collection[str]) -> int:
    """The same for MariaDB, whose updates know no SKIP LOCKED: what is joined is found, and locked, beforehand."""
    table = Dispatch._meta.db_table
    places, params = database.keys(chain_ids)
    now, now_params = clock.sql()
    held = ", ".join(["%s"] * len(holds))
    free = f"(hold IS NULL OR hold IN ({held}))" if holds else "hold IS NULL"
    with database.cursor() as cursor:
        cursor.execute(
            f"UPDATE (SELECT chain_id FROM {table} {locks.by_key()} WHERE chain_id IN ({places}) AND owner IS NULL "
            f"AND {free} AND (wakeup_at IS NULL OR wakeup_at > {now}) FOR UPDATE SKIP LOCKED) AS asleep "
            f"STRAIGHT_JOIN {table} AS chain {locks.by_key()} ON chain.chain_id = asleep.chain_id "
            f"SET chain.wakeup_at = {now}",
            [*params, *holds, *now_params, *now_params],
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


def late(limit: int = 500) -> list[UUID]:
    """Chains that nobody has and whose deadline has passed, whatever keeps them from being claimed."""
    passed = rows().filter(owner__isnull=True, deadline__lte=clock.now()).order_by("deadline")
    return list(passed.values_list("pk", flat=True)[:limit])


def admit_begun(queue: str) -> int:
    """Count the chains of this queue that have begun as let in. Waits for nobody: who is missed is let in later."""
    begun = rows().filter(queue=queue, epoch__gt=0, admitted=False).values_list("pk", flat=True)
    count = 0
    while found := _unlocked(begun):
        count += rows().filter(pk__in=found).update(admitted=True)
    return count


def begin(worker: int, chain_ids: Collection[UUID]) -> None:
    """Take the hold off chains whose run has begun after its delay."""
    if chain_ids:
        rows().filter(pk__in=chain_ids, owner=worker, hold=DELAYED).update(hold=None)


def acquit(worker: int, chain_ids: Collection[UUID]) -> None:
    """Forget the recoveries of chains that have made progress which no event tells of."""
    if chain_ids:
        rows().filter(pk__in=chain_ids, owner=worker).update(recoveries=0)


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
    return locks.first(wanted, SWEPT)
