"""PostgreSQL's NOTIFY and LISTEN, on connections of their own.

A NOTIFY takes a lock on the whole cluster's queue at its commit, so none is ever sent inside a caller's transaction,
and at most one per channel and ``QUIET_SECONDS`` leaves a process: a worker that has just been woken looks at the
database again and again until it finds nothing for a while, which makes the hints in between superfluous.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from django_durable.exceptions import DefinitionError
from django_durable.store import database, outages, pooling
from django_durable.transports.base import Listener, Transport, Wake

QUIET_SECONDS = 0.01
RECONNECT_SECONDS = 1.0
LISTEN_SECONDS = 1.0  # how long one wait for notifications lasts before the thread looks whether it should end

logger = logging.getLogger("django_durable.transports")


def queue_channel(queue: str) -> str:
    """A channel name that is legal whatever the queue is called (63 bytes at most)."""
    return f"durable_q_{hashlib.sha256(queue.encode()).hexdigest()[:16]}"


def worker_channel(worker: int) -> str:
    return f"durable_w_{worker}"


class PostgresTransport(Transport):
    """Hints by NOTIFY; without a listener that hears them, by PgBouncer for example, polling remains."""

    OPTIONS = {"LISTEN_DATABASE": None}

    def __init__(self, alias: str, options: Mapping[str, Any]) -> None:
        super().__init__(alias, options)
        direct = self.options["LISTEN_DATABASE"]
        if direct is not None and direct not in connections.settings:
            raise DefinitionError(
                f"Transport {alias!r} is to listen on database {direct!r}, which is not in DATABASES. It has: "
                f"{', '.join(connections.settings)}."
            )
        if not database.is_postgres():
            raise DefinitionError(
                f"Transport {alias!r} notifies through PostgreSQL, but database {database.alias()!r} is none. "
                "Choose another transport, or leave TRANSPORTS out."
            )
        self._sent: dict[str, float] = {}

    def work(self, queue: str) -> None:
        self._notify(queue_channel(queue))

    def message(self, worker: int) -> None:
        self._notify(worker_channel(worker))

    def listen(self, queues: tuple[str, ...], worker: int, wake: Wake) -> Listener:
        channels = [*map(queue_channel, queues), worker_channel(worker)]
        return PostgresListener(channels, wake, direct=self.options["LISTEN_DATABASE"])

    def _notify(self, channel: str) -> None:
        now = time.monotonic()
        if now - self._sent.get(channel, 0.0) < QUIET_SECONDS:
            return
        if len(self._sent) > 1_000:
            self._sent.clear()
        self._sent[channel] = now
        with database.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", [channel])


class Pooled(Exception):
    """A LISTEN would stay behind in a connection of the pooler, whose other clients would get the notifications."""


class PostgresListener:
    """A thread that waits for notifications on its own connection and reconnects for ever.

    ``direct``: the alias by which the database is reached for that, whatever is in between.
    """

    def __init__(self, channels: list[str], wake: Wake, *, direct: str | None = None) -> None:
        self.hears = False
        self._direct = direct
        self._channels = channels
        self._wake = wake
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="durable-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join(LISTEN_SECONDS * 3)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._hear()
            except Pooled:
                logger.warning(
                    "Notifications cannot be heard through a pooler such as PgBouncer, so this worker polls. Give the "
                    "transport 'postgres' the option LISTEN_DATABASE, the alias of a direct connection in DATABASES, "
                    "or choose the transport 'polling' or 'redis'."
                )
                self._disconnect()
                self._closed.wait()
            except Exception as error:  # any driver error: the database is the truth, this is only a hint
                logger.debug("Listening for wake-ups was interrupted: %s", error)
                self._wake()
                self._closed.wait(RECONNECT_SECONDS)
            finally:
                self.hears = False
                self._disconnect()

    def _disconnect(self) -> None:
        if self._direct is None:
            outages.discard()
            return
        try:
            connections[self._direct].close()
        except (DatabaseError, InterfaceError):  # it is broken, and so is closed
            pass

    def _hear(self) -> None:
        own = database.own_connection(self._direct)
        own.ensure_connection()
        own.set_autocommit(True)
        if self._direct is None and pooling.is_pooled(own):
            raise Pooled
        raw = own.connection
        if raw is None:
            raise DatabaseError("No connection to listen on.")
        for channel in self._channels:
            raw.execute(f'LISTEN "{channel}"')
        # A pooler that shares connections takes the LISTEN and delivers nothing: only what is heard is believed.
        raw.execute("SELECT pg_notify(%s, '')", [self._channels[-1]])
        while not self._closed.is_set():
            for _ in raw.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                self.hears = True
                self._wake()
