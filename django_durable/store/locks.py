"""Locks of rows, as each database has them: none of them makes the engine wait for a caller."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import QuerySet

from django_durable.store import database

_Rows = TypeVar("_Rows", bound=QuerySet[Any])


def has_row_locks() -> bool:
    """Whether transactions lock single rows. SQLite's lock the whole database."""
    return bool(database.connection().features.has_select_for_update)


def key_share(rows: QuerySet[Any], *, skip_locked: bool = False) -> list[tuple[Any, ...]]:
    """Read ``rows`` (a ``values_list`` queryset) under the weakest row lock there is.

    On PostgreSQL only an end conflicts with it, on MariaDB every change of the row; SQLite needs none, because its
    transactions write one at a time.
    """
    sql, params = rows.query.sql_with_params()
    return database.select(f"{sql} {share_lock(skip_locked=skip_locked)}", params)


def share_lock(*, skip_locked: bool = False) -> str:
    """The clause of handwritten SQL that takes the weakest row lock there is."""
    vendor = database.connection().vendor
    clause = {"postgresql": "FOR KEY SHARE", "mysql": "LOCK IN SHARE MODE"}.get(vendor, "")
    return f"{clause} SKIP LOCKED" if clause and skip_locked else clause


def settled_lock() -> str:
    """The clause of handwritten SQL that reads no row before the transaction that has written it has ended.

    MariaDB cannot be asked what became of a transaction; but whoever reads like this waits for one that has lost its
    connection, or is refused with a conflict. Elsewhere the transaction has been asked for.
    """
    return "LOCK IN SHARE MODE" if database.is_mariadb() else ""


def change_lock(*, against_senders: bool = True) -> str:
    """The clause of handwritten SQL that locks rows to change them, without waiting for anybody.

    ``against_senders`` False: beside who has locked them by ``key_share``, where the database can tell the two.
    """
    if database.is_mariadb():
        return "FOR UPDATE SKIP LOCKED"
    if database.is_postgres():
        return "FOR UPDATE SKIP LOCKED" if against_senders else "FOR NO KEY UPDATE SKIP LOCKED"
    return ""


def to_change(rows: _Rows, *, skip_locked: bool = True) -> _Rows:
    """Lock ``rows`` for a change, beside who has locked them by ``key_share`` where the database can tell the two."""
    return rows.select_for_update(skip_locked=skip_locked, no_key=database.is_postgres())


def first(rows: QuerySet[Any], limit: int) -> list[Any]:
    """Lock the first ``limit`` of ``rows`` that nobody has locked, for a change of them."""
    if not database.is_mariadb():
        return list(to_change(rows)[:limit])
    found: list[Any] = []
    seen: list[Any] = []
    while missing := limit - len(found):
        keys = _keys(rows.exclude(pk__in=seen)[:missing])
        found += to_change(rows.filter(pk__in=keys))
        seen += keys
        if len(keys) < missing:
            break
    return found


def exactly(rows: _Rows) -> _Rows:
    """The same rows by their keys, for a lock or a change of them.

    MariaDB locks whatever it reads on its way to them, and keeps what an index has led it to until the transaction
    ends: others' claims would pass by rows that nobody wants. So they are looked for by a plain read. What does not
    meet the conditions any more when it is locked is left out.
    """
    return rows.filter(pk__in=_keys(rows)) if database.is_mariadb() else rows


def exclusively(rows: _Rows) -> _Rows:
    """Lock ``rows`` against everybody, exactly them and in the order of their keys, without waiting for anybody."""
    return exactly(rows).order_by("pk").select_for_update(skip_locked=True)


def _keys(rows: QuerySet[Any]) -> list[Any]:
    return list(rows.values_list("pk", flat=True))


def by_key() -> str:
    """What handwritten SQL says behind a table whose rows it locks by their keys: see ``exactly``."""
    return "FORCE INDEX (PRIMARY)" if database.is_mariadb() else ""
