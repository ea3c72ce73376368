"""Whose turn it is among the partition keys of a queue: deficit round robin over what waits.

Each key gets as many turns in a row as it weighs. Where the round stands is kept in the queue's turn row, under whose
lock alone it moves on, so that claims of many workers make one round together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from django.db.models import QuerySet

from django_durable.definitions.queue import COUNTED, Counted
from django_durable.models import QueueTurn
from django_durable.store import clock, database, locks

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Turn:
    """The row of one kind of work of a queue, locked, and the database's time since it is."""

    queue: str
    kind: Counted
    latest_key: str
    turns_left: int
    spent_until: datetime | None
    time: datetime
    saved: tuple[str, int, datetime | None]

    def save(self) -> None:
        """Store what has changed; a limit of concurrency alone changes nothing."""
        if self.saved != (self.latest_key, self.turns_left, self.spent_until):
            rows(self.queue, self.kind).update(
                latest_key=self.latest_key, turns_left=self.turns_left, spent_until=self.spent_until
            )


def rows(queue: str, kind: Counted) -> QuerySet[QueueTurn]:
    return QueueTurn.objects.using(database.alias()).filter(queue=queue, kind=kind)


def make(queue: str) -> None:
    """Make the rows of a queue, if it has none yet."""
    new = [QueueTurn(queue=queue, kind=kind) for kind in COUNTED]
    QueueTurn.objects.using(database.alias()).bulk_create(new, ignore_conflicts=True)


def lock(queue: str, kind: Counted) -> Turn | None:
    """Lock the row for this transaction; None: another worker has it. Waits for nobody.

    Whatever the holders before have committed is seen by the statements that follow.
    """
    found = _lock(queue, kind)
    if found is None and not rows(queue, kind).exists():  # its queue was set up by nobody's verb
        make(queue)
        found = _lock(queue, kind)
    if found is None:
        return None
    latest_key, turns_left, spent_until, time = found
    return Turn(
        queue=queue,
        kind=kind,
        latest_key=latest_key,
        turns_left=turns_left,
        spent_until=spent_until,
        time=time,
        saved=(latest_key, turns_left, spent_until),
    )


def _lock(queue: str, kind: Counted) -> tuple[str, int, datetime | None, datetime] | None:
    locked = locks.to_change(rows(queue, kind))
    timed = locked.annotate(time=clock.now())  # nobody has waited, so the statement's start will do
    return timed.values_list("latest_key", "turns_left", "spent_until", "time").first()


class Dealt(NamedTuple, Generic[T]):
    """What has got a turn, by key, and where the round stands then."""

    taken: Mapping[str, Sequence[T]]
    latest_key: str
    turns_left: int


def deal(
    waiting: Sequence[tuple[str, Sequence[T]]],
    *,
    weight: Callable[[str], int],
    room: Callable[[str], int],
    limit: int,
    turns_left: int,
) -> Dealt[T]:
    """Give out ``limit`` turns, beginning with the first key, which has ``turns_left`` of its round before (0: none).

    ``room``: how many of a key there may be at most.
    """
    taken: dict[str, list[T]] = {}
    ring = deque((key, list(ones)[: room(key)]) for key, ones in waiting)
    latest, left = (waiting[-1][0] if waiting else ""), 0
    turns = turns_left
    while ring and limit > 0:
        key, ones = ring.popleft()
        turns = turns or weight(key)
        count = min(turns, len(ones), limit)
        if count:
            taken.setdefault(key, []).extend(ones[:count])
        limit -= count
        rest = ones[count:]
        latest, left = key, turns - count if rest else 0
        if rest:
            ring.append((key, rest))
        turns = 0
    return Dealt(taken, latest, left)


class Line(NamedTuple):
    """Where work of one kind waits at one priority of a queue, for handwritten SQL.

    ``waiting`` is the condition of the index on (queue, priority, partition_key, ``due``).
    """

    table: str
    id: str
    due: str
    waiting: str
    queue: str
    priority: int


def next_keys(line: Line, latest: str, *, limit: int) -> list[str]:
    """The keys that follow ``latest`` in the round and have something that waits, due or not; itself comes last."""
    found = _keys(line, "one.partition_key > %s", latest, None, limit)
    if len(found) < limit:
        found += _keys(line, "one.partition_key <= %s", latest, latest, limit - len(found))
    return found


def _keys(line: Line, first: str, start: str, last: str | None, limit: int) -> list[str]:
    """One index probe for each key, whatever waits of it."""
    if database.is_mariadb():
        return _keys_one_by_one(line, first, start, last, limit)
    lowest = f"SELECT MIN(one.partition_key) FROM {line.table} AS one WHERE {_PLACE.format(line.waiting)}"
    until = "" if last is None else "AND one.partition_key <= %s"
    sql = (
        f"WITH RECURSIVE found(partition_key, visited) AS (SELECT ({lowest} AND {first}), 1 UNION ALL "
        f"SELECT ({lowest} AND one.partition_key > found.partition_key {until}), visited + 1 FROM found "
        "WHERE partition_key IS NOT NULL AND visited < %s) "
        "SELECT partition_key FROM found WHERE partition_key IS NOT NULL"
    )
    place, bound = [line.queue, line.priority], [] if last is None else [last]
    return [key for (key,) in database.select(sql, [*place, start, *place, *bound, limit])]


def _keys_one_by_one(line: Line, first: str, start: str, last: str | None, limit: int) -> list[str]:
    """The same where a recursion would read the index instead of probing it."""
    until = "" if last is None else "AND one.partition_key <= %s"
    bound = [] if last is None else [last]
    keys: list[str] = []
    after = first
    while len(keys) < limit:
        found = database.select(
            f"SELECT one.partition_key FROM {line.table} AS one WHERE {_PLACE.format(line.waiting)} "
            f"AND {after} {until} ORDER BY one.partition_key LIMIT 1",
            [line.queue, line.priority, keys[-1] if keys else start, *bound],
        )
        if not found:
            break
        keys.append(found[0][0])
        after = "one.partition_key > %s"
    return keys


_PLACE = "{} AND one.queue = %s AND one.priority = %s"


def first_of_each(
    line: Line, keys: Sequence[str], *, claimable: str, params: Sequence[Any], each: int
) -> dict[str, list[Any]]:
    """Up to ``each`` due ids of each key, the longest due first. ``claimable``: which of them, with its ``params``."""
    if not keys:
        return {}
    now, moment = clock.sql(indexed=True)
    due = (
        f"SELECT one.{line.id} AS id, one.partition_key, one.{line.due} AS due FROM {line.table} AS one "
        f"WHERE {_PLACE.format(line.waiting)} AND one.{line.due} <= {now} AND {claimable} "
        f"AND one.partition_key = {{}} ORDER BY one.{line.due} LIMIT %s"
    )
    chosen = [line.queue, line.priority, *moment, *params]
    if database.is_postgres():
        sql = (
            f"SELECT picked.* FROM unnest(%s::text[]) AS turn(partition_key), "
            f"LATERAL ({due.format('turn.partition_key')}) AS picked"
        )
        found = database.select(sql, [list(keys), *chosen, each])
    else:
        sql = " UNION ALL ".join(f"SELECT * FROM ({due.format('%s')}) AS picked" for _ in keys)
        found = database.select(sql, [value for key in keys for value in (*chosen, key, each)])
    waiting: dict[str, list[Any]] = {key: [] for key in keys}
    for id, key, _ in sorted(found, key=lambda row: row[2]):
        waiting[key].append(id)
    return waiting
