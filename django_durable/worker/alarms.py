"""What is due at a certain time: workflow timers by the database's clock, attempts' deadlines by this process's."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django_durable.worker.jobs import Job
    from django_durable.worker.ownership import OwnedRun


class Alarms:
    """Three heaps. Entries are never removed early: whoever takes one looks whether it still means something."""

    def __init__(self) -> None:
        self._timers: list[tuple[datetime, int, OwnedRun]] = []
        self._deadlines: list[tuple[float, int, Job]] = []
        self._ends: list[tuple[datetime, int, OwnedRun]] = []
        self._counter = itertools.count()

    def set_timer(self, run: OwnedRun) -> None:
        """Make the run's next timer known, if it is another one than before."""
        following = run.instance.next_timer()
        if following is not None and following != run.timer:
            heapq.heappush(self._timers, (following[0], next(self._counter), run))
        run.timer = following

    def set_end(self, run: OwnedRun) -> None:
        """Make the time known at which the run times out, if it does."""
        if run.claimed.deadline is not None:
            heapq.heappush(self._ends, (run.claimed.deadline, next(self._counter), run))

    def set_deadline(self, job: Job) -> None:
        """Make the time known at which the attempt is overdue, if it ever is."""
        limit = job.deadline()
        if limit is not None:
            heapq.heappush(self._deadlines, (limit[0], next(self._counter), job))

    def due_timers(self, now: datetime) -> Iterator[tuple[OwnedRun, int]]:
        """Runs whose next timer is due, with its sequence."""
        while self._timers and self._timers[0][0] <= now:
            due, _, run = heapq.heappop(self._timers)
            if run.timer is not None and run.timer[0] == due:
                sequence = run.timer[1]
                run.timer = None
                yield run, sequence

    def due_ends(self, now: datetime) -> Iterator[OwnedRun]:
        """Runs that time out."""
        while self._ends and self._ends[0][0] <= now:
            yield heapq.heappop(self._ends)[2]

    def due_deadlines(self) -> Iterator[tuple[Job, str]]:
        """Attempts that are overdue, with the timeout that has passed. Heartbeats may have moved it meanwhile."""
        now = time.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            job = heapq.heappop(self._deadlines)[2]
            limit = job.deadline()
            if limit is not None and limit[0] <= now:
                yield job, limit[1]
            else:
                self.set_deadline(job)

    def until_next(self, now: datetime) -> float | None:
        """Seconds until anything is due; None: nothing is."""
        waits = []
        if self._timers:
            waits.append((self._timers[0][0] - now).total_seconds())
        if self._ends:
            waits.append((self._ends[0][0] - now).total_seconds())
        if self._deadlines:
            waits.append(self._deadlines[0][0] - time.monotonic())
        return max(min(waits), 0.0) if waits else None

    def clear(self) -> None:
        self._timers.clear()
        self._ends.clear()
        self._deadlines.clear()
