"""Where a scenario takes place: a database of its own, workers, work."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.harness import databases, registrations, trail, waiting
from tests.e2e.harness.fleet import Fleet, WorkerProcess
from tests.e2e.harness.work import Work

START_SECONDS = 60.0
MOST_SLOTS = 1_000  # of a worker, whatever the scenario says: each may hold a connection


@dataclass(slots=True, kw_only=True)
class Stage:
    """``url`` is the database itself; the workers may reach it by another address."""

    url: str
    fleet: Fleet
    work: Work = field(default_factory=Work)

    def start_workers(self, number: int) -> list[WorkerProcess]:
        """Start workers and wait until they have registered."""
        workers = [self.fleet.start() for _ in range(number)]
        for worker in workers:
            waiting.until(partial(self._serves, worker), f"{worker} to register", seconds=START_SECONDS)
        return workers

    def _serves(self, worker: WorkerProcess) -> bool:
        self.fleet.check()
        return registrations.current(worker.pid) is not None


@contextmanager
def staged(
    url: str,
    *,
    concurrency: int,
    settings: Mapping[str, Any],
    workers_url: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Stage]:
    """Set up the database behind ``url`` and get ready to start workers with these ``DURABLE`` settings.

    ``environment``: what the workers' environment has besides ours.
    """
    logs = Path(tempfile.mkdtemp(prefix="durable-logs-"))
    with databases.connected(url):
        if trail.is_kept():
            trail.install()
        slots = min(concurrency, MOST_SLOTS)
        fleet = Fleet(workers_url or url, logs, settings=settings, concurrency=slots, environment=environment or {})
        with fleet:
            try:
                yield Stage(url=url, fleet=fleet)
            except BaseException:
                waiting.say(f"The workers' logs are kept in {logs}.")
                raise
    shutil.rmtree(logs)
