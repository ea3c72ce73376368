"""Second connections: what another process does at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar
from uuid import UUID

import psycopg
from django.db import connection, connections, transaction

T = TypeVar("T")

PATIENCE = 20.0  # seconds until a test that waits for another connection gives up
PARAMETERS = ("host", "port", "user", "password", "dbname")


BLOCKED = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"


def has_gates() -> bool:
    """Whether senders lock another row than who changes the chain's own."""
    return connection.vendor == "mysql"


class Session:
    """A raw connection to the server, in a transaction from its first statement to ``commit`` or ``rollback``."""

    def __init__(self) -> None:
        known = connection.get_connection_params()
        if connection.vendor == "mysql":
            self._own: Any = connection.Database.connect(**known)  # type: ignore[attr-defined]
            self.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        else:
            self._own = psycopg.connect(**{name: known[name] for name in PARAMETERS if known.get(name)})

    def execute(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        with self._own.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall()) if cursor.description else []

    def hold_open(self, chain: UUID) -> None:
        """Lock a chain as its senders do."""
        if has_gates():
            self._lock("durable_gate", "LOCK IN SHARE MODE", chain)
        else:
            self._lock("durable_dispatch", "FOR KEY SHARE", chain)

    def lock_for_change(self, chain: UUID) -> None:
        """Lock a chain as who claims or releases it does."""
        self._lock("durable_dispatch", "FOR UPDATE" if has_gates() else "FOR NO KEY UPDATE", chain)

    def lock_for_end(self, chain: UUID) -> None:
        """Lock a chain as who ends it does."""
        if has_gates():
            self._lock("durable_gate", "FOR UPDATE", chain)
        self._lock("durable_dispatch", "FOR UPDATE", chain)

    def _lock(self, table: str, clause: str, chain: UUID) -> None:
        assert self.execute(f"SELECT 1 FROM {table} WHERE chain_id = %s {clause}", chain)

    def commit(self) -> None:
        self._own.commit()

    def rollback(self) -> None:
        self._own.rollback()

    def close(self) -> None:
        self._own.close()


class Elsewhere(Generic[T]):
    """A function that runs in a thread with a database connection of its own."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._value: T
        self._error: BaseException | None = None
        self.backend: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            connection.ensure_connection()
            if connection.vendor == "postgresql":
                self.backend = connection.connection.info.backend_pid
            elif connection.vendor == "mysql":
                self.backend = connection.connection.thread_id()
            self._value = self._function()
        except BaseException as error:
            self._error = error
        finally:
            connections.close_all()

    def result(self) -> T:
        """What the function returned, or the exception that it raised."""
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise AssertionError("The other connection is still waiting.")
        if self._error is not None:
            raise self._error
        return self._value

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def wait_until_blocked(self) -> None:
        """Return once the server says that this connection waits for a lock."""

        def waits() -> bool:
            if self.is_done:
                raise AssertionError(f"The other connection did not wait: {self._error or self._value!r}")
            if connection.vendor == "mysql":
                return "LOCK WAIT" in transaction_of(self.backend)
            with connection.cursor() as cursor:
                cursor.execute(BLOCKED, [self.backend])
                return cursor.fetchone() is not None

        until(waits)


def transaction_of(backend: int | None) -> str:
    """What MariaDB says of the open transaction of a connection; nothing if it has none.

    Not from ``innodb_trx``, which is not made anew while anybody asks more often than every tenth of a second.
    """
    with connection.cursor() as cursor:
        cursor.execute("SHOW ENGINE INNODB STATUS")
        ((_, _, text),) = cursor.fetchall()
    return next((one for one in text.split("---TRANSACTION")[1:] if f"thread id {backend}," in one), "")


def until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition()`` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "The condition never held."
        time.sleep(0.005)


class Paused:
    """A transaction elsewhere that has done its work and waits for the test before it ends."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._done, self._go = threading.Event(), threading.Event()
        self._commits = True
        self._work = work
        self._elsewhere = Elsewhere(self._run)
        self.backend = None
        until(lambda: self._done.is_set() or self._elsewhere.is_done)
        if not self._done.is_set():
            self._elsewhere.result()

    def _run(self) -> Any:
        with transaction.atomic():
            value = self._work()
            self._done.set()
            self._go.wait(PATIENCE)
            if not self._commits:
                transaction.set_rollback(True)
        return value

    def commit(self) -> Any:
        self._go.set()
        return self._elsewhere.result()

    def rollback(self) -> Any:
        self._commits = False
        return self.commit()


@contextmanager
def paused(work: Callable[[], Any]) -> Iterator[Paused]:
    """``work`` done in an open transaction on another connection; committed at the block's end if not before."""
    other = Paused(work)
    try:
        yield other
    finally:
        other.commit()


def all_at_once(functions: list[Callable[[], T]]) -> list[T]:
    """Run functions in threads that begin together; their results in order."""
    barrier = threading.Barrier(len(functions))

    def together(function: Callable[[], T]) -> T:
        barrier.wait(PATIENCE)
        return function()

    running = [Elsewhere(lambda function=function: together(function)) for function in functions]  # type: ignore[misc]
    return [one.result() for one in running]
