"""Savepoints inside a test's transaction, where one failed statement would otherwise spoil everything after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

_create: Callable[..., str] = getattr(transaction, "savepoint_create", transaction.savepoint)  # its name since 6.1


@contextmanager
def kept_usable() -> Iterator[None]:
    """Activities commit as they go: what the block has written stays, whatever it raises.

    Only if a database error has made the transaction unusable is the block's work undone.
    """
    points = [(own, _create(using=own.alias)) for own in _in_transactions()]
    try:
        yield
    finally:
        for own, point in points:
            if _is_usable(own):
                transaction.savepoint_commit(point, using=own.alias)
            else:
                transaction.set_rollback(False, using=own.alias)
                transaction.savepoint_rollback(point, using=own.alias)


def _in_transactions() -> list[BaseDatabaseWrapper]:
    return [own for own in connections.all(initialized_only=True) if own.in_atomic_block]


def _is_usable(own: BaseDatabaseWrapper) -> bool:
    if not own.in_atomic_block:
        return True
    try:
        with own.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True
