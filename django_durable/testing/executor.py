"""Activities without threads: each runs in the thread of the test, on the test's connection, one after the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import datetime

from django_durable.store import clock
from django_durable.testing import savepoints
from django_durable.testing.mocks import Mocks
from django_durable.worker import attempts
from django_durable.worker.executors import Done
from django_durable.worker.jobs import Job


class InlineExecutor:
    """Keeps jobs until ``run_next``: none begins while the engine is at work, so that an activity may drive it too."""

    capacity = 10_000

    def __init__(self, done: Done, overdue: Callable[[Job], None], mocks: Mocks) -> None:
        """``overdue`` is told of an attempt that has outlasted its ``start_to_close``, before its end is reported."""
        self._done = done
        self._overdue = overdue
        self._mocks = mocks
        self._jobs: deque[Job] = deque()
        self._running: dict[Job, datetime] = {}  # with the deadline by the clock of the test

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def give_up(self, job: Job) -> None:
        job.given_up = True

    def close(self) -> None:
        self._jobs.clear()

    def run_next(self) -> bool:
        """Execute the job that has waited longest. False: there is none."""
        if not self._jobs:
            return False
        job = self._jobs.popleft()
        limit = job.start_to_close
        job.started = time.monotonic()
        job.deadline = None if limit is None else job.started + limit.total_seconds()
        job.substitute = self._mocks.substitute_for(job.definition)
        if limit is not None:
            self._running[job] = clock.read() + limit
        try:
            with savepoints.kept_usable():
                finished = attempts.execute_async_here(job) if job.definition.is_async else attempts.execute(job)
        finally:
            self._running.pop(job, None)
        if job.deadline is not None and time.monotonic() > job.deadline:
            self._overdue(job)
        self._done(finished)
        return True

    def ring(self) -> None:
        """Time has passed, inside of an activity: attempts whose time limit is over are given up."""
        for job, deadline in list(self._running.items()):
            if deadline <= clock.read():
                self._overdue(job)

    def next_deadline(self) -> datetime | None:
        """When the first running attempt is overdue."""
        return min((deadline for job, deadline in self._running.items() if not job.timed_out), default=None)
