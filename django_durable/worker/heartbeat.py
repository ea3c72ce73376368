"""Keeps the worker's lease while its engine makes progress, and notices when there is something to sweep."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.db import DatabaseError, InterfaceError

from django_durable import conf
from django_durable.store import database, leases, outages

logger = logging.getLogger("django_durable.worker")

BEATS_PER_LEASE = 6
STALLED_SHARE = 1 / 3  # of the lease: an engine without progress for this long is not vouched for


class Heartbeat:
    """A thread with a connection of its own. A heart that beats while the engine hangs would be a lie."""

    def __init__(
        self, worker: Callable[[], int | None], progress: Callable[[], int], sweep: Callable[[], None]
    ) -> None:
        self._worker = worker
        self._progress = progress
        self._sweep = sweep
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="durable-heartbeat", daemon=True)
        self.declared_dead: int | None = None  # the worker that a heartbeat found to be declared dead
        self._unbroken_since: float | None = None
        self._last = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def may_judge(self) -> bool:
        """Whether this worker's own heartbeats have been unbroken for a full lease.

        After an outage of the database every lease has expired although nobody died.
        """
        lease, now = conf.current().LEASE_SECONDS, time.monotonic()
        if self._unbroken_since is None or now - self._last > lease:
            return False
        return now - self._unbroken_since >= lease

    def _run(self) -> None:
        database.own_connection()
        seen, since = -1, time.monotonic()
        while not self._stop.wait(conf.current().LEASE_SECONDS / BEATS_PER_LEASE):
            now, progress = time.monotonic(), self._progress()
            if self._worker() is None:  # it has no lease yet
                since = now
                continue
            if progress != seen:
                seen, since = progress, now
            elif now - since > conf.current().LEASE_SECONDS * STALLED_SHARE:
                logger.warning("The engine has made no progress for %.0f s, so its lease is not renewed.", now - since)
                self._unbroken_since = None
                continue
            self._beat()
        outages.discard()

    def _beat(self) -> None:
        worker = self._worker()
        if worker is None:
            return
        try:
            beat = leases.renew(worker)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("A heartbeat did not reach the database: %s", error)
            self._unbroken_since = None
            outages.discard()
            return
        now = time.monotonic()
        if not beat.alive or self._unbroken_since is None or now - self._last > conf.current().LEASE_SECONDS:
            self._unbroken_since = now
        self._last = now
        self.declared_dead = None if beat.alive else worker
        if beat.alive and beat.something_to_sweep:
            self._sweep()
