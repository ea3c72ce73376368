"""Activities as rows: spilled, remote, or waiting for a retry. Every write is conditional on (worker, attempt)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db.models import F, QuerySet

from django_durable.models import ActivityTask
from django_durable.store import clock, database, levels

OVERDUE_GRACE = timedelta(seconds=2)


class NewTask(NamedTuple):
    """An activity on its way to the table. ``worker`` set: spilled in place, running here already."""

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
    deadline: datetime | None = None
    failure: str | None = None


class Held(NamedTuple):
    """A task that is ours: under this worker and attempt alone may its result be written."""

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


def rows() -> QuerySet[ActivityTask]:
    return ActivityTask.objects.using(database.alias())


def insert(new: Sequence[NewTask]) -> None:
    """Add task rows, in the transaction that makes them necessary."""
    if new:
        rows().bulk_create([_row(task) for task in new])


def _row(task: NewTask) -> ActivityTask:
    fields = task._asdict()
    delay = fields.pop("delay")
    now = clock.now()
    return ActivityTask(**fields, due_at=clock.plus(now, delay) if delay else now)


def due(queue: str, priority: int) -> QuerySet[ActivityTask]:
    """The hot query: due tasks of one queue and priority, the longest due first."""
    return (
        rows().filter(worker__isnull=True, queue=queue, priority=priority, due_at__lte=clock.now()).order_by("due_at")
    )


def claim(worker: int, level: levels.Level, *, names: Collection[str], limit: int) -> list[ClaimedTask]:
    """Make up to ``limit`` due tasks of one level ours, the longest due first."""
    waiting = due(level.queue, level.priority).filter(name__in=names)
    found = list(waiting.select_for_update(skip_locked=True, no_key=True)[:limit])
    by_limit: dict[timedelta | None, list[int]] = defaultdict(list)
    for task in found:
        by_limit[task.start_to_close].append(task.pk)
    for start_to_close, ids in by_limit.items():
        deadline = clock.plus(clock.now(), start_to_close) if start_to_close else None
        rows().filter(pk__in=ids).update(worker=worker, attempt=F("attempt") + 1, deadline=deadline)
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
        )
        for task in found
    ]


def locked(held: Sequence[Held]) -> set[Held]:
    """Which of these tasks are still ours, locked until this transaction ends. Waits for nobody."""
    found = (
        rows()
        .filter(chain_id__in={task.chain_id for task in held}, key__in=[task.key for task in held])
        .order_by("pk")
        .select_for_update(skip_locked=True)
        .values_list("chain_id", "key", "worker", "attempt")
    )
    return _held(found) & set(held)


def ours(held: Collection[Held]) -> set[Held]:
    """Which of these tasks are still ours, as a plain read sees it."""
    found = rows().filter(chain_id__in={task.chain_id for task in held}, key__in=[task.key for task in held])
    return _held(found.values_list("chain_id", "key", "worker", "attempt")) & set(held)


def locked_for_settling(places: Collection[tuple[UUID, str]]) -> set[tuple[UUID, str]]:
    """Lock the task rows of these activities, so that no holder can commit; returns those that are busy."""
    mine = rows().filter(chain_id__in={chain for chain, _ in places}, key__in=[key for _, key in places])
    had = set(mine.order_by("pk").select_for_update(skip_locked=True).values_list("chain_id", "key"))
    return (set(mine.values_list("chain_id", "key")) - had) & set(places)


def finish(held: Sequence[Held]) -> None:
    """Delete tasks that this transaction has locked and whose final outcome it writes."""
    if held:
        done = rows().filter(chain_id__in={task.chain_id for task in held}, key__in=[task.key for task in held])
        done._raw_delete(database.alias())


def retry(held: Held, *, delay: timedelta, failure: str) -> bool:
    """Give a task back for another attempt after ``delay``. False: it is not ours any more."""
    return bool(_of(held).update(worker=None, deadline=None, due_at=clock.plus(clock.now(), delay), failure=failure))


def give_back(held: Held) -> bool:
    """Give a task back that was not executed: this attempt does not count."""
    return bool(_of(held).update(worker=None, deadline=None, attempt=F("attempt") - 1, due_at=clock.now()))


def held_by(worker: int) -> set[Held]:
    """The tasks that a worker holds."""
    return _held(rows().filter(worker=worker).values_list("chain_id", "key", "worker", "attempt"))


def cancel(chain_id: UUID, keys: Collection[str]) -> None:
    """Delete the tasks of activities that their workflow has given up."""
    rows().filter(chain_id=chain_id, key__in=keys).delete()


def existing(places: Collection[tuple[UUID, str]]) -> set[tuple[UUID, str]]:
    """Which of these activities, given by (chain, key), have a task row."""
    if not places:
        return set()
    chains = {chain for chain, _ in places}
    return set(rows().filter(chain_id__in=chains).values_list("chain_id", "key")) & set(places)


def overdue(limit: int = 500) -> list[ActivityTask]:
    """Tasks whose attempt has passed its deadline, whoever has them. Locked for this transaction.

    Whoever executes one notices by itself; the grace leaves that to it while it lives.
    """
    passed = (
        rows().filter(worker__isnull=False, deadline__lt=clock.plus(clock.now(), -OVERDUE_GRACE)).order_by("deadline")
    )
    return list(passed.select_for_update(skip_locked=True, no_key=True)[:limit])


def abandoned(dead: Collection[int], limit: int = 500) -> list[ActivityTask]:
    """Tasks of dead workers. Locked for this transaction."""
    return list(rows().filter(worker__in=dead).select_for_update(skip_locked=True, no_key=True)[:limit])


def interrupt(task: ActivityTask) -> None:
    """Give back a task whose worker died: the interruption counts, the attempt does not use up the retries."""
    rows().filter(pk=task.pk).update(
        worker=None, deadline=None, interruptions=F("interruptions") + 1, due_at=clock.now()
    )


def _held(found: Iterable[tuple[UUID, str, int | None, int]]) -> set[Held]:
    return {Held(chain, key, worker, attempt) for chain, key, worker, attempt in found if worker is not None}


def _of(held: Held) -> QuerySet[ActivityTask]:
    return rows().filter(chain_id=held.chain_id, key=held.key, worker=held.worker, attempt=held.attempt)
