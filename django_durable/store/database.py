"""The one database that holds our tables: its alias, our transactions on it, and what its vendor offers."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import DatabaseError, InterfaceError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models import QuerySet

from django_durable import conf

LOCK_TIMEOUT = 0.2  # seconds; how long a statement of the engine waits for a lock that somebody else holds

_sqlite_writer = threading.RLock()
_losses = 0


def alias() -> str:
    return conf.current().DATABASE


def connection() -> BaseDatabaseWrapper:
    """This thread's connection to our database."""
    return connections[alias()]


def is_postgres() -> bool:
    return connection().vendor == "postgresql"


def cursor() -> CursorWrapper:
    return connection().cursor()


@contextmanager
def writing(*, durable: bool = False) -> Iterator[None]:
    """A transaction on our database, joining the caller's if one is open.

    SQLite has one writer: the threads of a process take turns by a Python lock instead of polling the file's lock.
    Inside a caller's transaction that lock is left alone, because the caller may hold the file's lock already.
    """
    own = connection()
    durable = durable and in_transaction()
    if own.vendor == "sqlite" and not own.in_atomic_block:
        with _sqlite_writer, transaction.atomic(using=own.alias, durable=durable):
            yield
    else:
        with transaction.atomic(using=own.alias, durable=durable):
            yield


@contextmanager
def sweeping() -> Iterator[None]:
    """A short transaction of ours that locks rows outside the fence: the server ends it if this process stops in it."""
    with writing():
        if is_postgres():
            select(f"SELECT {LIMITS}", limits())
        yield


LIMITS = (
    "set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true), "
    "set_config('idle_in_transaction_session_timeout', %s, true)"
)


def limits() -> list[str]:
    """The parameters of ``LIMITS``: a transaction of ours may stand still for a third of the lease.

    A test's transaction is not ours: it may last for as long as the test does.
    """
    if in_tests_transaction():
        return ["0", "0", "0"]
    longest = f"{max(1, int(conf.current().LEASE_SECONDS * 1000 / 3))}ms"
    return [f"{int(LOCK_TIMEOUT * 1000)}ms", longest, longest]


# A test's own transaction, which is never committed: whoever works inside it takes it for none

_adopted: tuple[BaseDatabaseWrapper, int] | None = None


@contextmanager
def adopting() -> Iterator[None]:
    """Inside the block the transaction that is open on this connection now, a test's, counts as none."""
    global _adopted
    before, _adopted = _adopted, (connection(), len(connection().atomic_blocks))
    try:
        yield
    finally:
        _adopted = before


def in_transaction() -> bool:
    """Whether a transaction of the caller's is open here: no worker can see what it has written."""
    own = connection()
    return len(own.atomic_blocks) > _adopted_blocks(own)


def in_tests_transaction() -> bool:
    """Whether everything here happens inside a test's transaction."""
    return _adopted_blocks(connection()) > 0


def _adopted_blocks(own: BaseDatabaseWrapper) -> int:
    """How many of the open atomic blocks are a test's: those that were there, and those of Django's ``TestCase``."""
    if _adopted is None:
        return 0
    blocks: list[Any] = own.atomic_blocks
    count = min(_adopted[1], len(blocks)) if own is _adopted[0] else 0
    while count < len(blocks) and blocks[count]._from_testcase:
        count += 1
    return count


def on_commit(function: Callable[[], object]) -> None:
    """Call ``function`` once the current transaction has committed; its errors are logged, never raised."""

    def call() -> None:  # Django names what has failed in its log, and a partial has no name
        function()

    transaction.on_commit(call, using=alias(), robust=True)


def key_share(rows: QuerySet[Any], *, skip_locked: bool = False) -> list[tuple[Any, ...]]:
    """Read ``rows`` (a ``values_list`` queryset) under the weakest row lock, which only an end conflicts with.

    On databases without it: SQLite needs none (its transactions write one at a time).
    """
    sql, params = rows.query.sql_with_params()
    if is_postgres():
        sql += " FOR KEY SHARE SKIP LOCKED" if skip_locked else " FOR KEY SHARE"
    return select(sql, params)


def key_of(value: UUID) -> Any:
    """A UUID as this database's driver takes and gives it: SQLite keeps 32 hexadecimal digits."""
    return value if connection().features.has_native_uuid_field else value.hex


def as_uuid(value: Any) -> UUID:
    """A UUID as it was read by handwritten SQL."""
    return value if isinstance(value, UUID) else UUID(value)


def select(sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Read rows by handwritten SQL: on the hot path the ORM's compiler costs more than the query."""
    with cursor() as executing:
        executing.execute(sql, params)
        found: list[tuple[Any, ...]] = executing.fetchall()
        return found


def keys(ids: Collection[UUID]) -> tuple[str, list[Any]]:
    """Placeholders for handwritten ``IN (...)``, and their parameters. ``ids`` must not be empty."""
    return ", ".join(["%s"] * len(ids)), [key_of(one) for one in sorted(ids)]


def own_connection() -> BaseDatabaseWrapper:
    """Give this thread a connection outside any pool and make it the thread's connection to our database."""
    name = alias()
    configured = connections[name]
    settings = copy.deepcopy(configured.settings_dict)
    settings["OPTIONS"].pop("pool", None)
    settings["CONN_MAX_AGE"] = None
    fresh = type(configured)(settings, name)
    configured.close()
    connections[name] = fresh
    return fresh


def flush_at_commit() -> None:
    """Let the current transaction's commit wait for the disk after all."""
    if is_postgres():
        with cursor() as executing:
            executing.execute("SET LOCAL synchronous_commit TO DEFAULT")


def forget_queries() -> None:
    """Drop the queries that DEBUG collects: a worker has no request after which Django would."""
    connection().queries_log.clear()


def is_outage(error: BaseException) -> bool:
    """Whether ``error`` says something about the database's state, not about the run that met it."""
    if not isinstance(error, DatabaseError | InterfaceError):
        return False
    state = sqlstate(error)
    if state is None:
        return isinstance(error, OperationalError | InterfaceError)
    return state[:2] not in {"22", "23", "54"}


def is_conflict(error: BaseException) -> bool:
    """Whether the same work may simply be tried again: a lock not had, a deadlock, a serialisation failure."""
    if sqlstate(error) in {"55P03", "40001", "40P01"}:
        return True
    return isinstance(error, OperationalError) and "locked" in str(error)


def sqlstate(error: BaseException) -> str | None:
    """The five-character code of a database error, where the driver gives one."""
    state = getattr(error.__cause__, "sqlstate", None)
    return state if isinstance(state, str) else None


def is_usable() -> bool:
    """Whether this thread's connection still answers; a broken one is closed, so that the next use opens anew."""
    own = connection()
    try:
        with own.cursor() as executing:
            executing.execute("SELECT 1")
    except (DatabaseError, InterfaceError):
        discard()
        return False
    return True


def losses() -> int:
    """Grows whenever a connection of this process has turned out broken: others may be, without knowing it yet."""
    return _losses


def count_loss() -> None:
    global _losses
    _losses += 1


def discard() -> None:
    """Drop this thread's connection whatever state it is in. A test's transaction, which would be lost, is kept."""
    own = connection()
    if in_tests_transaction():
        return
    count_loss()
    try:
        own.close()
    except (DatabaseError, InterfaceError):
        pass
    finally:
        own.connection = None
        own.in_atomic_block = False
        own.savepoint_ids = []
        own.atomic_blocks = []
        own.needs_rollback = False
        own.closed_in_transaction = False
        own.run_on_commit = []


def wait_until_usable(stopped: Callable[[], bool], *, longest: float = 2.0) -> bool:
    """Reconnect with growing pauses until the database answers. False: ``stopped()`` came first."""
    pause = 0.05
    while not stopped():
        if is_usable():
            return True
        time.sleep(pause)
        pause = min(pause * 2, longest)
    return False
