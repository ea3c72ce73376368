"""What waits in each queue, for how long, and how fast it goes: for people, for metrics, for whoever adds workers.

Cheap whatever sleeps and however much has ended: each figure is read by an index, and the counting has limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, QuerySet

from django_durable import conf
from django_durable.models import ActivityTask, Dispatch, Worker, WorkflowRun
from django_durable.store import clock, database, levels, queues

WINDOW = timedelta(minutes=1)
MOST_WAITING = 100_000  # of one queue and priority that are counted
MOST_RECENT = 10_000  # of the latest starts and ends from which rates are taken
LEVELS_AT_ONCE = 100  # SQLite takes 500 parts in one statement


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueBacklog:
    """One queue at one moment.

    ``runs_due`` and ``activities_due``: how many could be taken now; of one priority 100,000 are counted at most.
    ``oldest_seconds``: for how long the first of them has been due; None: nothing is. ``runs_owned``: in the hands of
    workers. ``activities_running``: those that another worker than their run's has, or that have a row for another
    reason; most activities are executed by the owner of their run, and have none. ``workers``: that serve it and live.
    ``started_per_minute``, ``finished_per_minute``: runs, over the last minute. ``paused``: no worker takes from it.
    """

    name: str
    runs_due: int = 0
    activities_due: int = 0
    oldest_seconds: float | None = None
    runs_owned: int = 0
    activities_running: int = 0
    workers: int = 0
    started_per_minute: float = 0.0
    finished_per_minute: float = 0.0
    paused: bool = False

    @property
    def depth(self) -> int:
        """Everything that waits for a worker."""
        return self.runs_due + self.activities_due


def read(*, window: timedelta = WINDOW) -> list[QueueBacklog]:
    """All queues that a worker serves, that the settings name, or in which there is something, by name."""
    known = levels.everywhere()
    chains, tasks = ([one for one in found if one.earliest <= known.time] for found in (known.chains, known.tasks))
    runs_due, activities_due = _count(_DUE_CHAINS, chains), _count(_DUE_TASKS, tasks)
    oldest = _oldest([*chains, *tasks])
    owned = _by_queue(Dispatch.objects.using(database.alias()).filter(owner__isnull=False))
    running = _by_queue(ActivityTask.objects.using(database.alias()).filter(worker__gt=0))
    workers = _workers()
    started, finished = (_rates(moment, window, known.time) for moment in ("created_at", "closed_at"))
    paused = set(queues.rows().filter(paused=True).values_list("name", flat=True))
    names = {level.queue for level in (*known.chains, *known.tasks)}
    names.update(conf.current().QUEUES, owned, running, workers, started, finished, paused)
    return [
        QueueBacklog(
            name=name,
            runs_due=runs_due[name],
            activities_due=activities_due[name],
            oldest_seconds=(known.time - oldest[name]).total_seconds() if name in oldest else None,
            runs_owned=owned[name],
            activities_running=running[name],
            workers=workers[name],
            started_per_minute=started.get(name, 0.0),
            finished_per_minute=finished.get(name, 0.0),
            paused=name in paused,
        )
        for name in sorted(names)
    ]


def _oldest(due: Sequence[levels.Level]) -> dict[str, datetime]:
    oldest: dict[str, datetime] = {}
    for level in due:
        oldest[level.queue] = min(level.earliest, oldest.get(level.queue, level.earliest))
    return oldest


_DUE_CHAINS = f"{Dispatch._meta.db_table} WHERE owner IS NULL AND wakeup_at IS NOT NULL AND wakeup_at <= {{now}}"
_DUE_TASKS = f"{ActivityTask._meta.db_table} WHERE worker IS NULL AND due_at <= {{now}}"


def _count(due: str, found: Sequence[levels.Level]) -> Counter[str]:
    """How much is due at each of these levels, by queue: a range of the index for each, as a claim reads it."""
    now, moment = clock.sql(indexed=True)
    counts: Counter[str] = Counter()
    for first in range(0, len(found), LEVELS_AT_ONCE):
        some = found[first : first + LEVELS_AT_ONCE]
        statement = " UNION ALL ".join(
            f"SELECT {number}, COUNT(*) FROM (SELECT 1 FROM {due.format(now=now)} "
            f"AND queue = %s AND priority = %s LIMIT {MOST_WAITING}) AS due"
            for number in range(len(some))
        )
        params = [value for level in some for value in (*moment, level.queue, level.priority)]
        for number, count in database.select(statement, params):
            counts[some[number].queue] += count
    return counts


def _by_queue(rows: QuerySet[Any]) -> Counter[str]:
    return Counter(dict(rows.order_by().values_list("queue").annotate(count=Count("pk"))))


def _workers() -> Counter[str]:
    living = Worker.objects.using(database.alias()).filter(dead=False, expires_at__gt=clock.now())
    return Counter(name for served in living.values_list("queues", flat=True) for name in served.split("\n"))


_RECENT = (
    "SELECT queue, COUNT(*), MIN(moment) FROM (SELECT queue, {column} AS moment "
    f"FROM {WorkflowRun._meta.db_table} WHERE {{column}} > %s ORDER BY {{column}} DESC LIMIT {MOST_RECENT}) AS recent "
    "GROUP BY queue"
)


def _rates(column: str, window: timedelta, now: datetime) -> dict[str, float]:
    """Runs a minute, by queue. When there are very many the latest of them tell it as well."""
    found = database.select(_RECENT.format(column=column), [clock.adapt(now - window)])
    if sum(count for _, count, _ in found) >= MOST_RECENT:
        first = min(clock.as_moment(moment) for _, _, moment in found)
        window = max(now - first, timedelta(milliseconds=1))
    return {queue: count * 60 / window.total_seconds() for queue, count, _ in found}
