"""Activities as rows: spilled, remote, or waiting for a retry. Every write is conditional on (worker, attempt)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db.models import F, Q, QuerySet

from django_durable.models import ActivityTask
from django_durable.store import clock, database, levels, locks, portions

NOBODY = 0  # in the place of a worker's id
OUTSIDE = levels.OUTSIDE
OVERDUE_GRACE = timedelta(seconds=2)
_FREE = {"worker": None, "external": False, "deadline": None, "attempt_ends_at": None, "admitted": False}


class NewTask(NamedTuple):
    """An activity on its way to the table.

    ``worker`` set: spilled in place, running here already; ``attempt_left`` is what is left of its start_to_close.
    """

    chain_id: UUID
    key: str
    run_id: UUID
    scheduled: int
    workflow_id: str
    name: str
    queue: str
    priority: int
    input: str
    options: str
    start_to_close: timedelta | None
    attempt: int = 0
    interruptions: int = 0
    delay: timedelta = timedelta(0)
    worker: int | None = None
    attempt_left: timedelta | None = None
    failure: str | None = None
    start_before: datetime | None = None
    expires_at: datetime | None = None
    heartbeat: timedelta | None = None
    heartbeat_details: str | None = None
    headers: str | None = None
    external: bool = False
    partition_key: str = ""


class Held(NamedTuple):
    """A task in somebody's hands: under this worker and attempt alone may its result be written.

    ``NOBODY``: no worker has it, and it must be so still.
    """

    chain_id: UUID
    key: str
    worker: int
    attempt: int


class ClaimedTask(NamedTuple):
    """What a worker needs to execute a task."""

    held: Held
    run_id: UUID
    scheduled: int
    workflow_id: str
    name: str
    input: str
    options: str
    interruptions: int
    start_to_close: timedelta | None
    failure: str | None
    expires_at: datetime | None = None
    heartbeat_details: str | None = None
    headers: str | None = None
    cancel_requested: bool = False
    queue: str = ""


def rows() -> QuerySet[ActivityTask]:
    return ActivityTask.objects.using(database.alias())


def insert(new: Sequence[NewTask]) -> None:
    """Add task rows, in the transaction that makes them necessary."""
    for some in portions.portions(new, lambda task: len(task.input)):
        rows().bulk_create([_row(task) for task in some])


def _row(task: NewTask) -> ActivityTask:
    fields = task._asdict()
    delay, left = fields.pop("delay"), fields.pop("attempt_left")
    now = clock.now()
    return ActivityTask(
        **fields,
        due_at=clock.plus(now, delay) if delay else now,
        **(_attempt_limits(left, task.heartbeat) if task.worker is not None else {}),
    )


def _attempt_limits(attempt: timedelta | None, heartbeat: timedelta | None) -> dict[str, Any]:
    """The columns that limit an attempt: when it is over, and when whoever looks first finds it overdue."""
    shortest = min((limit for limit in (attempt, heartbeat) if limit is not None), default=None)
    now = clock.now()  # once: the two are compared
    return {
        "attempt_ends_at": clock.plus(now, attempt) if attempt is not None else None,
        "deadline": clock.plus(now, shortest) if shortest is not None else None,
    }


def due(queue: str, priority: int) -> QuerySet[ActivityTask]:
    """The hot query: due tasks of one queue and priority, the longest due first."""
    return (
        rows().filter(worker__isnull=True, queue=queue, priority=priority, due_at__lte=clock.now()).order_by("due_at")
    )


def claim(
    worker: int,
    level: levels.Level,
    *,
    names: Collection[str],
    limit: int,
    admits: bool = False,
    among: Collection[int] | None = None,
) -> list[ClaimedTask]:
    """Make up to ``limit`` due tasks of one level ours, the longest due first.

    ``admits``: their queue lets them in by this; ``among``: those alone that have one of these ids.
    """
    waiting = due(level.queue, level.priority).filter(_in_time("start_before"), _in_time("expires_at"), name__in=names)
    if among is not None:
        waiting = waiting.filter(pk__in=among)
    found = locks.first(waiting, limit)
    by_limits: dict[tuple[timedelta | None, timedelta | None], list[int]] = defaultdict(list)
    for task in found:
        by_limits[task.start_to_close, task.heartbeat].append(task.pk)
    for limits, ids in by_limits.items():
        rows().filter(pk__in=ids).update(
            worker=worker, attempt=F("attempt") + 1, start_before=None, admitted=admits, **_attempt_limits(*limits)
        )
    return [
        ClaimedTask(
            Held(task.chain_id, task.key, worker, task.attempt + 1),
            task.run_id,
            task.scheduled,
            task.workflow_id,
            task.name,
            task.input,
            task.options,
            task.interruptions,
            task.start_to_close,
            task.failure,
            task.expires_at,
            task.heartbeat_details,
            task.headers,
            task.cancel_requested,
            task.queue,
        )
        for task in found
    ]


def _in_time(column: str) -> Q:
    """Whether a time limit has not passed: what has is the sweep's."""
    return Q(**{f"{column}__isnull": True}) | Q(**{f"{column}__gt": clock.now()})


def locked(held: Sequence[Held]) -> set[Held]:
    """Which of these tasks are still ours, locked until this transaction ends. Waits for nobody."""
    mine = rows().filter(chain_id__in={task.chain_id for task in held}, key__in=[task.key for task in held])
    found = locks.exclusively(mine).values_list("chain_id", "key", "worker", "attempt")
    return _held(found) & set(held)


def ours(held: Collection[Held]) -> set[Held]:
    """Which of these tasks are still ours, as a plain read sees it."""
    found = rows().filter(chain_id__in={task.chain_id for task in held}, key__in=[task.key for task in held])
    return _held(found.values_list("chain_id", "key", "worker", "attempt")) & set(held)


def locked_for_settling(places: Collection[tuple[UUID, str]]) -> set[tuple[UUID, str]]:
    """Lock the task rows of these activities, so that no holder can commit; returns those that are busy."""
    mine = rows().filter(chain_id__in={chain for chain, _ in places}, key__in=[key for _, key in places])
    had = set(locks.exclusively(mine).values_list("chain_id", "key"))
    return (set(mine.values_list("chain_id", "key")) - had) & set(places)


def busy(chains: Collection[UUID]) -> set[UUID]:
    """Which of these chains have tasks that somebody holds locked; the others' are locked from now on."""
    if not chains:
        return set()
    all_of_them = rows().filter(chain_id__in=chains)
    had = set(locks.exclusively(all_of_them).values_list("pk", flat=True))
    return {chain for key, chain in all_of_them.values_list("pk", "chain_id") if key not in had}


def finish(held: Sequence[Held]) -> None:
    """Delete tasks that this transaction has locked and whose final outcome it writes."""
    if held:
        done = rows().filter(chain_id__in={task.chain_id for task in held}, key__in=[task.key for task in held])
        _delete(done)


def retry(held: Held, *, delay: timedelta, failure: str, details: str | None = None) -> bool:
    """Give a task back for another attempt after ``delay``. False: it is not ours any more."""
    told = {} if details is None else {"heartbeat_details": details}
    return bool(_of(held).update(**_FREE, due_at=clock.plus(clock.now(), delay), failure=failure, **told))


def give_back(held: Held) -> bool:
    """Give a task back that was not executed: this attempt does not count."""
    return bool(_of(held).update(**_FREE, attempt=F("attempt") - 1, due_at=clock.now()))


def leave_outside(held: Held) -> bool:
    """Its attempt goes on without a worker, until somebody uses its token. False: it is not ours any more."""
    return bool(_of(held).update(worker=OUTSIDE, external=True, admitted=False))


class _Looks(msgspec.Struct):
    """What of an activity's stored options matters to whoever tells its outcome."""

    looks: int = 0


_looks = msgspec.json.Decoder(_Looks)


def looks_of(options: str) -> int:
    """How many looks of ``ctx.poll()`` were made before the one that has these stored options."""
    return _looks.decode(options).looks if options.startswith("{") else 0


def locked_by_token(chain_id: UUID, key: str) -> ActivityTask | None:
    """The task that a token stands for, locked in the caller's transaction, which may wait for that."""
    return rows().filter(chain_id=chain_id, key=key).select_for_update().first()


def beat_from_outside(task: ActivityTask, details: str | None) -> None:
    """Note that whoever has the token of this task, which the caller has locked, is still at it."""
    changed: dict[str, Any] = {} if details is None else {"heartbeat_details": details}
    if task.heartbeat is not None:
        following = clock.read() + task.heartbeat
        changed["deadline"] = min(following, task.attempt_ends_at or following)
    if changed:
        rows().filter(pk=task.pk).update(**changed)


def beat(held: Held, *, heartbeat: timedelta | None, attempt_left: timedelta | None, details: str | None) -> None:
    """Note that an attempt lives. The caller has locked the task."""
    changed: dict[str, Any] = {} if details is None else {"heartbeat_details": details}
    if heartbeat is not None:
        changed["deadline"] = _attempt_limits(attempt_left, heartbeat)["deadline"]
    if changed:
        _of(held).update(**changed)


def held_by(worker: int) -> set[Held]:
    """The tasks that a worker holds."""
    return _held(rows().filter(worker=worker).values_list("chain_id", "key", "worker", "attempt"))


def cancel(chain_id: UUID, keys: Collection[str]) -> None:
    """Delete the tasks of activities that their workflow has given up."""
    _delete(rows().filter(chain_id=chain_id, key__in=keys))


def ask_to_stop(chain_id: UUID, keys: Collection[str]) -> set[str]:
    """Have these activities stop whoever runs them; returns those that nobody runs: their tasks are gone.

    The caller has locked the tasks.
    """
    mine = rows().filter(chain_id=chain_id, key__in=keys)
    locks.exactly(mine.filter(worker__isnull=False)).update(cancel_requested=True)
    unowned = mine.filter(worker__isnull=True)
    stopped = set(unowned.values_list("key", flat=True))
    _delete(unowned)
    return stopped


def delete_all(chains: Collection[UUID], *, apart_from: Collection[str]) -> None:
    """Delete the tasks of these chains, but not the activities with these keys."""
    _delete(rows().filter(chain_id__in=chains).exclude(key__in=apart_from))


def _delete(found: QuerySet[ActivityTask]) -> None:
    if database.is_mariadb():
        database.delete(ActivityTask, list(found.values_list("pk", flat=True)))
    else:
        found._raw_delete(database.alias())


def asked_to_stop(held: Collection[Held]) -> set[Held]:
    """Which of these tasks are asked to stop."""
    found = rows().filter(
        chain_id__in={task.chain_id for task in held}, key__in=[task.key for task in held], cancel_requested=True
    )
    return _held(found.values_list("chain_id", "key", "worker", "attempt")) & set(held)


def give_to(chain_id: UUID, keys: Collection[str], run_id: UUID) -> None:
    """These activities are those of another run of their chain from now on; whoever executes them goes on."""
    locks.exactly(rows().filter(chain_id=chain_id, key__in=keys)).update(run_id=run_id)


def existing(places: Collection[tuple[UUID, str]], *, settled: bool = False) -> set[tuple[UUID, str]]:
    """Which of these activities, given by (chain, key), have a task row.

    ``settled``: waits, where that can be, for transactions that are adding them.
    """
    if not places:
        return set()
    chains, params = database.keys({chain for chain, _ in places})
    key = database.connection().ops.quote_name("key")
    found = database.select(
        f"SELECT chain_id, {key} FROM {ActivityTask._meta.db_table} WHERE chain_id IN ({chains}) "
        + (locks.settled_lock() if settled else ""),
        params,
    )
    return {(database.as_uuid(chain), key) for chain, key in found} & set(places)


def overdue(limit: int = 500) -> list[ActivityTask]:
    """Tasks whose attempt has passed its deadline, whoever has them. Locked for this transaction.

    Whoever executes one notices by itself; the grace leaves that to it while it lives.
    """
    passed = rows().filter(
        Q(worker__isnull=False, deadline__lt=clock.plus(clock.now(), -OVERDUE_GRACE))
        | Q(worker=OUTSIDE, deadline__lte=clock.now())
    )
    return locks.first(passed.order_by("deadline"), limit)


def expired(limit: int = 500) -> list[ActivityTask]:
    """Tasks whose schedule_to_close has passed, whoever has them. Locked for this transaction."""
    now = clock.now()
    passed = rows().filter(
        Q(Q(worker__isnull=True) | Q(worker=OUTSIDE), expires_at__lte=now)
        | Q(expires_at__lt=clock.plus(now, -OVERDUE_GRACE))
    )
    return locks.first(passed.order_by("expires_at"), limit)


def unstarted(limit: int = 500) -> list[ActivityTask]:
    """Tasks that nobody has begun before their schedule_to_start passed. Locked for this transaction."""
    passed = rows().filter(worker__isnull=True, start_before__lte=clock.now()).order_by("start_before")
    return locks.first(passed, limit)


def abandoned(dead: Collection[int], limit: int = 500) -> list[ActivityTask]:
    """Tasks of dead workers. Locked for this transaction."""
    return locks.first(rows().filter(worker__in=dead), limit)


def interrupt(task: ActivityTask) -> None:
    """Give back a task whose worker died: the interruption counts, the attempt does not use up the retries."""
    rows().filter(pk=task.pk).update(**_FREE, interruptions=F("interruptions") + 1, due_at=clock.now())


def _held(found: Iterable[tuple[UUID, str, int | None, int]]) -> set[Held]:
    return {Held(chain, key, worker or NOBODY, attempt) for chain, key, worker, attempt in found}


def _of(held: Held) -> QuerySet[ActivityTask]:
    return rows().filter(chain_id=held.chain_id, key=held.key, worker=held.worker or None, attempt=held.attempt)
