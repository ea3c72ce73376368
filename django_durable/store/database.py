"""The one database that holds our tables: its alias, our transactions on it, and what its vendor offers."""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from uuid import UUID

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models import Model

from django_durable import conf
from django_durable.store import mariadb

LOCK_TIMEOUT = 0.2  # seconds; how long a statement of the engine waits for a lock that somebody else holds

_sqlite_writer = threading.RLock()
_ours: weakref.WeakSet[BaseDatabaseWrapper] = weakref.WeakSet()  # connections that no code of the project uses


def alias() -> str:
    return conf.current().DATABASE


def connection() -> BaseDatabaseWrapper:
    """This thread's connection to our database."""
    return connections[alias()]


def is_postgres() -> bool:
    return connection().vendor == "postgresql"


def is_mariadb() -> bool:
    return connection().vendor == "mysql"


def has_no_clock() -> bool:
    """Whether the database knows no time but this process's: SQLite is a part of it."""
    return connection().vendor == "sqlite"


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
    elif own.vendor == "mysql":
        with own.execute_wrapper(mariadb.by_key), transaction.atomic(using=own.alias, durable=durable):
            yield
    else:
        with transaction.atomic(using=own.alias, durable=durable):
            yield


@contextmanager
def sweeping() -> Iterator[None]:
    """A short transaction of ours that locks rows outside the fence: the server ends it if this process stops in it."""
    with limiting(), writing():
        if is_postgres():
            select(f"SELECT {LIMITS}", limits())
        yield


@contextmanager
def limiting() -> Iterator[None]:
    """Around a transaction of ours, where its limits belong to the session: elsewhere it sets them itself."""
    own = connection()
    if not is_mariadb() or in_tests_transaction():
        yield
    elif own in _ours:
        mariadb.limit_for_good(own, mariadb.limits(LOCK_TIMEOUT, _longest()))
        yield
    else:
        with mariadb.limited(own, mariadb.limits(LOCK_TIMEOUT, _longest())):
            yield


@contextmanager
def writing_guarded() -> Iterator[None]:
    """A transaction of the project's own code, which may take its time: standing still, it is ended by the server."""
    has_session = is_mariadb() and not in_tests_transaction()
    limit = mariadb.limited(connection(), mariadb.idle_limits(_longest())) if has_session else nullcontext()
    with limit, writing(durable=True):
        if is_postgres():
            *_, longest = limits()
            select("SELECT set_config('idle_in_transaction_session_timeout', %s, true)", [longest])
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
    longest = f"{max(1, int(_longest() * 1000))}ms"
    return [f"{int(LOCK_TIMEOUT * 1000)}ms", longest, longest]


def _longest() -> float:
    """Seconds that a transaction of ours may take, and that it may stand still."""
    return conf.current().LEASE_SECONDS / 3


# A test's own transaction, which is never committed: whoever works inside it takes it for none

_adopted: list[tuple[BaseDatabaseWrapper, int]] = []


@contextmanager
def adopting() -> Iterator[None]:
    """Inside the block the transactions that are open in this thread now, a test's, count as none."""
    global _adopted
    connection()  # so that it is among those that there are
    before = _adopted
    _adopted = [(one, len(one.atomic_blocks)) for one in connections.all(initialized_only=True)]
    try:
        yield
    finally:
        _adopted = before


def in_transaction() -> bool:
    """Whether a transaction of the caller's is open here: no worker can see what it has written."""
    own = connection()
    return len(own.atomic_blocks) > _adopted_blocks(own)


def foreign_transactions() -> list[str]:
    """The aliases of other databases on which a transaction of the caller's is open here."""
    if len(connections.settings) < 2:
        return []
    others = [one for one in connections.all(initialized_only=True) if one.alias != alias()]
    return [one.alias for one in others if len(one.atomic_blocks) > _tests_blocks(one)]


def _tests_blocks(one: BaseDatabaseWrapper) -> int:
    """How many of the open atomic blocks are a test's, in an environment or in Django's ``TestCase`` alone."""
    blocks: list[Any] = one.atomic_blocks
    return max(_adopted_blocks(one), len([block for block in blocks if block._from_testcase]))


def in_tests_transaction() -> bool:
    """Whether everything here happens inside a test's transaction."""
    return _adopted_blocks(connection()) > 0


def _adopted_blocks(own: BaseDatabaseWrapper) -> int:
    """How many of the open atomic blocks are a test's: those that were there, and those of Django's ``TestCase``."""
    if not _adopted:
        return 0
    blocks: list[Any] = own.atomic_blocks
    count = min(next((adopted for one, adopted in _adopted if one is own), 0), len(blocks))
    while count < len(blocks) and blocks[count]._from_testcase:
        count += 1
    return count


def on_commit(function: Callable[[], object]) -> None:
    """Call ``function`` once the current transaction has committed; its errors are logged, never raised."""

    def call() -> None:  # Django names what has failed in its log, and a partial has no name
        function()

    transaction.on_commit(call, using=alias(), robust=True)


def delete(model: type[Model], keys: Collection[Any]) -> None:
    """Delete rows by their keys, without a look at any others."""
    if not keys:
        return
    if is_mariadb():
        mariadb.delete(connection(), model, list(keys))
    else:
        model._default_manager.using(alias()).filter(pk__in=keys)._raw_delete(alias())


def unless_there(insert: str) -> str:
    """Handwritten ``insert`` that leaves out rows whose key is taken. It waits for who is about to take one."""
    if is_mariadb():
        return insert.replace("INSERT", "INSERT IGNORE", 1)
    return f"{insert} ON CONFLICT DO NOTHING"


def conflict_target(*fields: str) -> list[str] | None:
    """The ``unique_fields`` of a ``bulk_create`` with ``update_conflicts``, which MariaDB cannot be told."""
    return list(fields) if connection().features.supports_update_conflicts_with_target else None


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


def own_connection(name: str | None = None) -> BaseDatabaseWrapper:
    """Give this thread a connection outside any pool and make it the thread's connection to our database.

    ``name``: the alias under which our database is reached, if that is not the usual one.
    """
    name = name or alias()
    configured = connections[name]
    settings = copy.deepcopy(configured.settings_dict)
    settings["OPTIONS"].pop("pool", None)
    settings["CONN_MAX_AGE"] = None
    fresh = type(configured)(settings, name)
    configured.close()
    connections[name] = fresh
    _ours.add(fresh)
    return fresh


def flush_at_commit() -> None:
    """Let the current transaction's commit wait for the disk after all."""
    if is_postgres():
        with cursor() as executing:
            executing.execute("SET LOCAL synchronous_commit TO DEFAULT")


def forget_queries() -> None:
    """Drop the queries that DEBUG collects: a worker has no request after which Django would."""
    connection().queries_log.clear()


def release() -> None:
    """Give this thread's connection back before a wait; the next use opens one, or takes one from the pool."""
    own = connection()
    if not own.in_atomic_block:
        own.close()
