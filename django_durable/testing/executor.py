"""Activities without threads: each runs in the thread of the test, on the test's connection, one after the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django_durable.store import clock
from django_durable.testing import savepoints
from django_durable.testing.mocks import Mocks
from django_durable.worker import attempts
from django_durable.worker.executors import Done
from django_durable.worker.jobs import Job


@dataclass(slots=True)
class _Times:
    """Of a running attempt, by the clock of the test."""

    start: datetime
    beat: datetime

    def limit(self, job: Job) -> tuple[datetime, str] | None:
        options = job.definition.options
        limits = []
        if options.start_to_close is not None:
            limits.append((self.start + options.start_to_close, "start_to_close"))
        if options.heartbeat is not None:
            limits.append((self.beat + options.heartbeat, "heartbeat"))
        if job.expires_at is not None:
            limits.append((job.expires_at, "schedule_to_close"))
        return min(limits, default=None)


class InlineExecutor:
    """Keeps jobs until ``run_next``: none begins while the engine is at work, so that an activity may drive it too."""

    capacity = 10_000

    def __init__(
        self,
        done: Done,
        overdue: Callable[[Job, str], None],
        beat: Callable[[Job], object],
        open: Callable[[Job], object],
        mocks: Mocks,
    ) -> None:
        """``overdue`` is told of an attempt that has passed one of its time limits, before its end is reported.

        ``beat`` takes heartbeats, without waiting for anything; ``open`` gives an attempt its own row at once.
        """
        self._done = done
        self._overdue = overdue
        self._beat = beat
        self._open = open
        self._mocks = mocks
        self._jobs: deque[Job] = deque()
        self._running: dict[Job, _Times] = {}

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def give_up(self, job: Job) -> None:
        job.given_up = True

    def announce_stop(self, job: Job) -> None:
        """It looks at the job itself."""

    def close(self) -> None:
        self._jobs.clear()

    def run_next(self) -> bool:
        """Execute the job that has waited longest. False: there is none."""
        if not self._jobs:
            return False
        job = self._jobs.popleft()
        job.started = job.beat_at = time.monotonic()
        job.pulse = self
        job.substitute = self._mocks.substitute_for(job.definition)
        now = clock.read()
        self._running[job] = _Times(now, now)
        if job.expires_at is not None:
            job.expires = job.started + (job.expires_at - now).total_seconds()
        try:
            with savepoints.kept_usable():
                finished = attempts.execute_async_here(job) if job.definition.is_async else attempts.execute(job)
        finally:
            self._running.pop(job, None)
        limit = job.deadline()
        if limit is not None and time.monotonic() > limit[0]:
            self._overdue(job, limit[1])
        self._done(finished)
        return True

    def beat(self, job: Job) -> None:
        if job in self._running:
            self._running[job].beat = clock.read()
        self._beat(job)

    def open(self, job: Job) -> None:
        self._open(job)

    def ring(self) -> None:
        """Time has passed, inside of an activity: attempts whose time limit is over are given up."""
        for job, times in list(self._running.items()):
            limit = times.limit(job)
            if limit is not None and limit[0] <= clock.read():
                self._overdue(job, limit[1])

    def next_deadline(self) -> datetime | None:
        """When the first running attempt is overdue."""
        limits = [times.limit(job) for job, times in self._running.items() if not job.timed_out]
        return min((limit[0] for limit in limits if limit is not None), default=None)
