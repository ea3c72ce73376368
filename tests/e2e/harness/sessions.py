"""What PostgreSQL's sessions are doing right now: to stop a process exactly inside a transaction."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psycopg

from django_durable.models import ActivityOutcome, Dispatch, HistoryEvent, Worker
from tests.e2e.harness.fleet import WorkerProcess
from tests.flows.models import Entry

ENGINES = "|".join(model._meta.db_table for model in (HistoryEvent, Dispatch, Worker))
ACTIVITIES = "|".join(model._meta.db_table for model in (Entry, ActivityOutcome))
SETTLE_SECONDS = 0.03
_OPEN = """
SELECT pid, xact_start::text, query FROM pg_stat_activity
WHERE datname = current_database() AND application_name = %s AND state <> 'idle' AND xact_start IS NOT NULL
AND query ~ %s AND NOT query ~ %s
"""


class Session(NamedTuple):
    """A session inside a transaction, after the statement ``query``."""

    backend: int
    since: str
    query: str


class Watcher:
    """Looks at the sessions of worker processes from a connection of its own."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def engine(self, worker: WorkerProcess) -> list[Session]:
        """Open transactions of the worker's own."""
        return self._open(worker, ENGINES, ACTIVITIES)

    def activities(self, worker: WorkerProcess) -> list[Session]:
        """Open transactions of its atomic activities."""
        return self._open(worker, ACTIVITIES, "^$")

    def _open(self, worker: WorkerProcess, like: str, unlike: str) -> list[Session]:
        return [Session(*row) for row in self._connection.execute(_OPEN, [worker.name, like, unlike]).fetchall()]

    def stop_inside_engine(self, worker: WorkerProcess, *, seconds: float) -> Session | None:
        """Stop the worker so that it stands still inside a transaction of its engine; None: it was never caught."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            before = self.engine(worker)
            if not before:
                continue
            worker.stop()
            time.sleep(SETTLE_SECONDS)
            caught = [session for session in self.engine(worker) if session in before]
            if caught:
                return caught[0]
            worker.go_on()
        return None


@contextmanager
def watching(url: str) -> Iterator[Watcher]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield Watcher(connection)
