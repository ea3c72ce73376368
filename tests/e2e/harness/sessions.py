"""What the server's sessions are doing right now: to stop a process exactly inside a transaction."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psycopg
from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler

from django_durable.models import ActivityOutcome, Dispatch, HistoryEvent, Worker
from example_project import database
from tests.e2e.harness import databases
from tests.e2e.harness.fleet import WorkerProcess
from tests.flows.models import Entry

ENGINES = "|".join(model._meta.db_table for model in (HistoryEvent, Dispatch, Worker))
OF_ACTIVITIES = [model._meta.db_table for model in (Entry, ActivityOutcome)]
ACTIVITIES = "|".join(OF_ACTIVITIES)
SETTLE_SECONDS = 0.03
_OPEN = """
SELECT pid, xact_start::text FROM pg_stat_activity
WHERE datname = current_database() AND application_name = %s AND state <> 'idle' AND xact_start IS NOT NULL
AND query ~ %s AND NOT query ~ %s
"""


class Session(NamedTuple):
    """A session inside a transaction; ``since`` tells its transactions apart."""

    backend: int
    since: str


class Watcher(ABC):
    """Looks at the sessions of worker processes from a connection of its own."""

    @abstractmethod
    def engine(self, worker: WorkerProcess) -> list[Session]:
        """Open transactions of the worker's own."""

    @abstractmethod
    def activities(self, worker: WorkerProcess) -> list[Session]:
        """Open transactions of its atomic activities."""

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


class PostgresWatcher(Watcher):
    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def engine(self, worker: WorkerProcess) -> list[Session]:
        return self._open(worker, ENGINES, ACTIVITIES)

    def activities(self, worker: WorkerProcess) -> list[Session]:
        return self._open(worker, ACTIVITIES, "^$")

    def _open(self, worker: WorkerProcess, like: str, unlike: str) -> list[Session]:
        return [Session(*row) for row in self._connection.execute(_OPEN, [worker.name, like, unlike]).fetchall()]


class MariadbWatcher(Watcher):
    """Sees what has been written and not been committed: rows of the trail that ``dirty`` reads and ``clean`` does not.

    MariaDB's own list of transactions is up to a tenth of a second old, and does not tell what they are about.
    """

    def __init__(self, dirty: BaseDatabaseWrapper, clean: BaseDatabaseWrapper) -> None:
        self._dirty = dirty
        self._clean = clean

    def engine(self, worker: WorkerProcess) -> list[Session]:
        return [session for session, relation in self._open(worker) if relation not in OF_ACTIVITIES]

    def activities(self, worker: WorkerProcess) -> list[Session]:
        return [session for session, relation in self._open(worker) if relation in OF_ACTIVITIES]

    def _open(self, worker: WorkerProcess) -> list[tuple[Session, str]]:
        latest = "SELECT id, session, relation FROM trail WHERE process = %s ORDER BY id DESC LIMIT 500"
        with self._dirty.cursor() as dirty, self._clean.cursor() as clean:
            dirty.execute(latest, [worker.name])
            written = dirty.fetchall()
            clean.execute(latest, [worker.name])
            committed = {row[0] for row in clean.fetchall()}
        open_ = {session: (id, relation) for id, session, relation in reversed(written) if id not in committed}
        return [(Session(session, str(id)), relation) for session, (id, relation) in open_.items()]


@contextmanager
def watching(url: str) -> Iterator[Watcher]:
    if databases.vendor(url) == "postgresql":
        with psycopg.connect(url, autocommit=True) as connection:
            yield PostgresWatcher(connection)
        return
    dirty, clean = (_connected(url, isolation_level=level) for level in ("read uncommitted", "read committed"))
    try:
        yield MariadbWatcher(dirty, clean)
    finally:
        dirty.close()
        clean.close()


def _connected(url: str, **options: str) -> BaseDatabaseWrapper:
    entry = database.from_url(url)
    entry["OPTIONS"] |= options
    return ConnectionHandler({DEFAULT_DB_ALIAS: entry})[DEFAULT_DB_ALIAS]
