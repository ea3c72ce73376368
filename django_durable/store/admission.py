"""Claims from governed queues: what is let in is counted, and given its turn, under the lock of one row.

The invariant: a chain or a task is let in (``admitted``) by nobody but the holder of its queue's turn row, who has
counted after he got it; everybody else only lets out, by deleting the row or by giving it back. So no more are in than
the limit that was committed when the last was let in. What is in is what rows say: a worker that dies takes nothing
with it, because recovery gives back its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, Q

from django_durable.definitions.queue import ACTIVITIES, WORKFLOWS, Counted, QueueOptions
from django_durable.definitions.rate import Rate
from django_durable.models import ActivityTask, Dispatch, QueueKey
from django_durable.store import claims, clock, database, dispatch, levels, queues, tasks, turns

AGAIN = timedelta(milliseconds=10)  # until a line is looked at again whose lock another worker had
VISITED = 256  # keys at most that one claim looks at
MANY = 1_000  # candidates that one claim reads, about


class Admitted(NamedTuple):
    """What a claim has got. ``again_at``: when it is worth another look; ``held_back``: more waited than was let in."""

    claimed: list[Any]
    again_at: datetime | None = None
    held_back: bool = False


@dataclass(slots=True, kw_only=True)
class _Kind:
    """How one kind of work is counted and claimed."""

    name: Counted
    line: Callable[[levels.Level], turns.Line]
    claimable: str  # more SQL
    params: Sequence[Any]
    in_it: Callable[[str], Any]  # rows that are let in
    holder: str  # the column that says by whom they are worked on
    claim: Callable[..., list[Any]]


def claim_chains(worker: int, level: levels.Level, *, definitions: Sequence[str], limit: int) -> Admitted:
    """Make due chains of a governed level ours. Those that are in already come first, and wait for no turn."""
    known, names = _one_of("one.definition", definitions)
    kind = _Kind(
        name=WORKFLOWS,
        line=lambda level: turns.Line(
            Dispatch._meta.db_table, "chain_id", "wakeup_at",
            f"one.owner IS NULL AND one.wakeup_at IS NOT NULL AND {_not_in()}", level.queue, level.priority,
        ),
        claimable=f"one.recoveries < {claims.SUSPECT_AFTER} AND {known}",
        params=names,
        in_it=lambda queue: dispatch.rows().filter(queue=queue, admitted=True),
        holder="owner",
        claim=lambda ids, limit: claims.claim(
            worker, level, definitions=definitions, limit=limit, admitted=False, among=ids
        ),
    )  # fmt: skip
    going_on = claims.claim(worker, level, definitions=definitions, limit=limit, admitted=True)
    if len(going_on) >= limit:
        return Admitted(going_on)
    new = _admit(kind, worker, level, limit - len(going_on))
    return new._replace(claimed=going_on + new.claimed)


def claim_tasks(worker: int, level: levels.Level, *, names: Sequence[str], limit: int) -> Admitted:
    """Make due tasks of a governed level ours."""
    known, params = _one_of("one.name", names)
    now, moment = clock.sql(indexed=True)
    in_time = " AND ".join(f"(one.{limit} IS NULL OR one.{limit} > {now})" for limit in ("start_before", "expires_at"))
    kind = _Kind(
        name=ACTIVITIES,
        line=lambda level: turns.Line(
            ActivityTask._meta.db_table,
            "id",
            "due_at",
            f"one.worker IS NULL AND {_not_in()}",
            level.queue,
            level.priority,
        ),
        claimable=f"{in_time} AND {known}",
        params=[*moment * 2, *params],
        in_it=lambda queue: tasks.rows().filter(queue=queue, admitted=True),
        holder="worker",
        claim=lambda ids, limit: tasks.claim(worker, level, names=names, limit=limit, admits=True, among=ids),
    )
    return _admit(kind, worker, level, limit)


def _not_in() -> str:
    """SQLite uses an index of some rows for a condition in the very words of the index, and Django has changed them."""
    return "NOT one.admitted" if database.is_postgres() else "NOT one.admitted AND one.admitted = 0"


def _one_of(column: str, values: Sequence[str]) -> tuple[str, list[Any]]:
    if database.is_postgres():
        return f"{column} = ANY(%s)", [list(values)]
    return f"{column} IN ({', '.join(['%s'] * len(values))})", list(values)


def _admit(kind: _Kind, worker: int, level: levels.Level, limit: int) -> Admitted:
    turn = turns.lock(level.queue, kind.name)
    if turn is None:
        return Admitted([], clock.read() + AGAIN)
    rules = queues.read_one(level.queue)
    if rules.paused:
        return Admitted([])
    options = rules.options
    gate = _Gate.of(kind, worker, turn, options) if options.counts_what(kind.name) else _Gate(turn=turn)
    room = min(limit, gate.room)
    if room <= 0:
        return Admitted([], gate.again_at, held_back=True)
    if options.takes_turns(kind.name):
        claimed, kept_out = _in_turn(kind, level, options, turn, gate, room)
    else:
        claimed, kept_out = kind.claim(None, room), False
    gate.let_in(len(claimed))
    turn.save()
    return Admitted(claimed, gate.again_at, held_back=kept_out or (len(claimed) >= room and room < limit))


def _in_turn(
    kind: _Kind, level: levels.Level, options: QueueOptions, turn: turns.Turn, gate: _Gate, room: int
) -> tuple[list[Any], bool]:
    line = kind.line(level)
    visited = min(VISITED, 2 * room + len(gate.in_by_key) + 1)
    keys = turns.next_keys(line, turn.latest_key, limit=visited)
    if turn.turns_left and turn.latest_key in keys:
        keys = [turn.latest_key, *(key for key in keys if key != turn.latest_key)]
    else:
        turn.turns_left = 0
    gate.read_keys(keys)
    room_of = {key: gate.room_of(key) for key in keys}
    open_ = [key for key in keys if room_of[key] > 0]
    each = room if room * len(open_) <= MANY else max(1, -(-2 * room // len(open_)))
    waiting = turns.first_of_each(
        line, open_, claimable=kind.claimable, params=kind.params, each=max(each, *map(options.weight, open_), 1)
    )
    kept_out = any(len(waiting.get(key, ())) > room_of[key] for key in keys) or len(open_) < len(keys)
    dealt = turns.deal(
        [(key, waiting.get(key, [])) for key in keys],
        weight=options.weight,
        room=room_of.__getitem__,
        limit=room,
        turns_left=turn.turns_left,
    )
    if not dealt.taken:
        if len(keys) >= visited:  # the next claim goes on where this one has found nothing
            turn.latest_key, turn.turns_left = keys[-1], 0
            gate.come_again(turn.time + AGAIN)
        return [], kept_out
    turn.latest_key, turn.turns_left = dealt.latest_key, dealt.turns_left
    claimed = kind.claim([id for ids in dealt.taken.values() for id in ids], room)
    gate.let_keys_in({key: len(ids) for key, ids in dealt.taken.items()})
    return claimed, kept_out


@dataclass(slots=True, kw_only=True)
class _Gate:
    """How many may be let in now, in all and of each key; without limits, as many as there are turns."""

    turn: turns.Turn
    room: int = 2**31
    per_key: int | None = None
    rate: Rate | None = None
    rate_per_key: Rate | None = None
    in_by_key: Mapping[str, int] = field(default_factory=dict)
    again_at: datetime | None = None
    _spent: dict[str, datetime] = field(default_factory=dict)

    @classmethod
    def of(cls, kind: _Kind, worker: int, turn: turns.Turn, options: QueueOptions) -> _Gate:
        """Count what is in, and what the rate leaves. The caller has the lock."""
        gate = cls(
            turn=turn,
            per_key=options.concurrency_per_key,
            rate=options.rate,
            rate_per_key=options.rate_per_key,
        )
        gate.room = min([gate.room, *_left(kind, worker, turn.queue, options), *gate._left_of_rate()])
        if options.concurrency_per_key is not None:
            counted = kind.in_it(turn.queue).values_list("partition_key").annotate(count=Count("pk"))
            gate.in_by_key = dict(counted.order_by())
        return gate

    def _left_of_rate(self) -> list[int]:
        if self.rate is None:
            return []
        free = self.rate.free(self.turn.spent_until, self.turn.time)
        if free <= 0:
            self.come_again(self.rate.next_free(self.turn.spent_until, self.turn.time))
        return [free]

    def come_again(self, moment: datetime) -> None:
        self.again_at = moment if self.again_at is None else min(self.again_at, moment)

    def read_keys(self, keys: Sequence[str]) -> None:
        """What these keys have spent of their rate."""
        if self.rate_per_key is not None and keys:
            found = _key_rows(self.turn.queue).filter(key__in=keys).values_list("key", "spent_until")
            self._spent = dict(found)

    def room_of(self, key: str) -> int:
        """How many of this key may be let in."""
        room = self.room
        if self.per_key is not None:
            room = min(room, self.per_key - self.in_by_key.get(key, 0))
        if self.rate_per_key is not None:
            spent = self._spent.get(key)
            room = min(room, self.rate_per_key.free(spent, self.turn.time))
            if room <= 0:
                self.come_again(self.rate_per_key.next_free(spent, self.turn.time))
        return max(room, 0)

    def let_in(self, count: int) -> None:
        """Note that so many have begun."""
        if self.rate is not None and count:
            self.turn.spent_until = self.rate.spend(self.turn.spent_until, self.turn.time, count)
            self.come_again(self.rate.next_free(self.turn.spent_until, self.turn.time))

    def let_keys_in(self, counts: Mapping[str, int]) -> None:
        """Note that so many of each key have begun, and forget the keys that owe nothing any more."""
        if self.rate_per_key is None:
            return
        spent = {
            key: self.rate_per_key.spend(self._spent.get(key), self.turn.time, count) for key, count in counts.items()
        }
        _key_rows(self.turn.queue).filter(Q(key__in=list(spent)) | Q(spent_until__lte=self.turn.time)).delete()
        new = [QueueKey(queue=self.turn.queue, key=key, spent_until=moment) for key, moment in spent.items()]
        QueueKey.objects.using(database.alias()).bulk_create(new)
        self.come_again(min(self.rate_per_key.next_free(moment, self.turn.time) for moment in spent.values()))


def _key_rows(queue: str) -> Any:
    return QueueKey.objects.using(database.alias()).filter(queue=queue)


def _left(kind: _Kind, worker: int, queue: str, options: QueueOptions) -> list[int]:
    """What the limits leave of the queue, and of this worker."""
    left = []
    if options.concurrency is not None:
        left.append(options.concurrency - kind.in_it(queue).order_by().count())
    if options.concurrency_per_worker is not None:
        mine = kind.in_it(queue).filter(**{kind.holder: worker}).order_by().count()
        left.append(options.concurrency_per_worker - mine)
    return left
