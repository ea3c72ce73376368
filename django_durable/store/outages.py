"""A database that does not answer, or not as it should: which errors say so, and how to get back to it."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError

from django_durable.store import database, mariadb

PAUSES = (0.01, 0.05, 0.2, 0.5)  # seconds before the second and the later tries

P = ParamSpec("P")
T = TypeVar("T")

_losses = 0


def is_outage(error: BaseException) -> bool:
    """Whether ``error`` says something about the database's state, not about the run that met it."""
    if not isinstance(error, DatabaseError | InterfaceError):
        return False
    state = sqlstate(error)
    if database.is_mariadb():
        return not mariadb.is_property(error)
    if state is None:
        return isinstance(error, OperationalError | InterfaceError)
    return state[:2] not in {"22", "23", "54"}


def is_conflict(error: BaseException) -> bool:
    """Whether the same work may simply be tried again: a lock not had, a deadlock, a serialisation failure."""
    if sqlstate(error) in {"55P03", "40001", "40P01"}:
        return True
    if database.is_mariadb():
        return mariadb.is_conflict(error)
    return isinstance(error, OperationalError) and "locked" in str(error)


def is_undone(error: BaseException) -> bool:
    """Whether the database has undone a transaction for another one's sake: it may begin anew at once."""
    return sqlstate(error) in {"40001", "40P01"} or (database.is_mariadb() and mariadb.is_undone(error))


def begins_anew(verb: Callable[P, T]) -> Callable[P, T]:
    """A caller's verb is tried again when a deadlock has undone it, unless the caller's own transaction went with it.

    On MariaDB who waits for a lock can be the victim of others. PostgreSQL has no deadlock here by design, but may be
    set to serialisable transactions. What the verb has committed before must do no harm twice.
    """

    @functools.wraps(verb)
    def trying(*args: P.args, **kwargs: P.kwargs) -> T:
        for pause in PAUSES:
            try:
                return verb(*args, **kwargs)
            except DatabaseError as error:
                if not is_undone(error) or database.connection().in_atomic_block:
                    raise
            time.sleep(pause * random.uniform(0.5, 1.0))
        return verb(*args, **kwargs)

    return trying


def sqlstate(error: BaseException) -> str | None:
    """The five-character code of a database error, where the driver gives one."""
    state = getattr(error.__cause__, "sqlstate", None)
    return state if isinstance(state, str) else None


def is_usable() -> bool:
    """Whether this thread's connection still answers; a broken one is closed, so that the next use opens anew."""
    own = database.connection()
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
    own = database.connection()
    if database.in_tests_transaction():
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
