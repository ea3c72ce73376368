"""The thread that writes statuses to the project's cache: the engine only says which have changed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection
from uuid import UUID

from django.db import connections

from django_durable.store import database, outages, status_cache

logger = logging.getLogger("django_durable.worker")

GATHER_SECONDS = 0.02  # in which changes of the same run become one write
BATCH = 200
MOST_WAITING = 10_000  # more are dropped: their entries expire by themselves
LAST_SECONDS = 2.0  # at the end, for what waits still


class StatusWriter:
    """Takes ids of runs from any thread, without ever waiting, and writes them in its own."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, None] = {}
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="durable-statuses", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end; for as long as that may take."""
        self._stopping = True
        self._bell.set()
        if self._thread.is_alive():
            self._thread.join(LAST_SECONDS)

    def put(self, run_ids: Collection[UUID]) -> None:
        """These runs have changed, and that is committed."""
        with self._lock:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.update(dict.fromkeys(run_ids))
        self._bell.set()

    def _run(self) -> None:
        database.own_connection()
        try:
            while not self._stopping:
                self._bell.wait()
                self._bell.clear()
                if not self._stopping:
                    time.sleep(GATHER_SECONDS)
                while batch := self._take():
                    self._write(batch)
        finally:
            connections.close_all()

    def _take(self) -> list[UUID]:
        with self._lock:
            batch = list(self._waiting)[:BATCH]
            for run_id in batch:
                del self._waiting[run_id]
        return batch

    def _write(self, batch: list[UUID]) -> None:
        try:
            status_cache.write(batch)
        except Exception as error:  # of the database; whoever polls reads it there
            logger.warning("%d statuses could not be read for the cache: %s", len(batch), error)
            outages.discard()
