"""What MariaDB needs in words of its own: limits of a session, and numbers of errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from django.apps import apps
from django.db import DatabaseError, DataError, IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BigAutoField, Model

COLLATION = "utf8mb4_nopad_bin"
"""Ids and keys are what they are: "A" is not "a", "e" is not "é", and "a" is not "a " either."""

_CONFLICTS = {
    1020,  # the row has changed since it was read
    1205,  # a lock was not had in time
    1213,  # a deadlock; the whole transaction is rolled back, whatever its savepoints
}
_UNDONE = {1020, 1213}
_PROPERTIES = {
    1153,  # a statement that is larger than max_allowed_packet
    1301,  # a result that is
    1366,  # text that the column's character set has no place for
}
Limits = dict[str, int]  # values of session variables, in whole seconds: that is all they know


def limits(lock_timeout: float, longest: float) -> Limits:
    """How long a statement waits for a lock, how long it takes, and how long a transaction may stand still."""
    return {
        "innodb_lock_wait_timeout": max(1, round(lock_timeout)),
        "max_statement_time": _seconds(longest),
        **idle_limits(longest),
    }


def idle_limits(longest: float) -> Limits:
    """How long a transaction may stand still. Those for one kind of transaction come before the one for all."""
    kinds = ("idle_transaction_timeout", "idle_write_transaction_timeout", "idle_readonly_transaction_timeout")
    return dict.fromkeys(kinds, _seconds(longest))


def _seconds(time: float) -> int:
    """0 would mean no limit."""
    return max(1, round(time))


def number(error: BaseException) -> int | None:
    """The server's number of a database error, where there is one."""
    arguments = getattr(error.__cause__ or error, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def is_conflict(error: BaseException) -> bool:
    return isinstance(error, DatabaseError) and number(error) in _CONFLICTS


def is_undone(error: BaseException) -> bool:
    return isinstance(error, DatabaseError) and number(error) in _UNDONE


def is_property(error: BaseException) -> bool:
    """Whether ``error`` says something about the rows that were to be written, not about the server's state."""
    return isinstance(error, IntegrityError | DataError) or number(error) in _PROPERTIES


def limit_for_good(own: BaseDatabaseWrapper, wanted: Limits) -> None:
    """Limit every transaction of a connection that is ours alone. Costs nothing once it is done."""
    own.ensure_connection()
    raw: Any = own.connection
    if getattr(raw, "durable_limits", None) != wanted:
        _set(own, [f"SESSION {name} = {value}" for name, value in wanted.items()])
        raw.durable_limits = wanted


@contextmanager
def limited(own: BaseDatabaseWrapper, wanted: Limits) -> Iterator[None]:
    """Limit what happens inside the block: limits belong to a session here, not to a transaction."""
    kept = [f"@durable_{name} = @@SESSION.{name}" for name in wanted]
    _set(own, [*kept, *(f"SESSION {name} = {value}" for name, value in wanted.items())])
    raw = own.connection
    try:
        yield
    finally:
        if own.connection is raw and own.is_usable():
            _set(own, [f"SESSION {name} = @durable_{name}" for name in wanted])


def _set(own: BaseDatabaseWrapper, assignments: list[str]) -> None:
    with own.cursor() as cursor:
        cursor.execute(f"SET {', '.join(assignments)}")


# Where a table has few rows, the server reads all of them for a change of several that are given by their keys. It
# locks those that it passes by, and waits for them: they may be a caller's for as long as his transaction lasts.

_CHANGE = re.compile(
    r"UPDATE `(?P<updated>durable_\w+)`(?= SET )"
    r"|SELECT .*? FROM `(?P<locked>durable_\w+)`(?= WHERE .* FOR UPDATE(?: SKIP LOCKED)?$)",
    re.DOTALL,
)


def by_key(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
    """An execute wrapper that has changes and locks of rows whose keys are given look for them by their keys."""
    change = _CHANGE.match(sql)
    if change is not None:
        table = change["updated"] or change["locked"]
        if f"`{table}`.`{_keys().get(table)}` IN (" in sql:
            sql = f"{change[0]} FORCE INDEX (PRIMARY){sql[change.end() :]}"
    return execute(sql, params, many, context)


@cache
def _keys() -> dict[str, str | None]:
    """The first column of each table's primary key."""
    models = apps.get_app_config("durable").get_models()
    return {model._meta.db_table: model._meta.pk_fields[0].column for model in models}


def delete(own: BaseDatabaseWrapper, model: type[Model], keys: Sequence[Any]) -> None:
    """Delete rows by their keys. A deletion cannot be told its index, but the way in which it joins tables."""
    field: Any = model._meta.pk
    is_number = isinstance(field, BigAutoField)
    kind = "BIGINT" if is_number else "CHAR(36) CHARACTER SET utf8mb4"
    compared = "" if is_number or own.features.has_native_uuid_field else f" COLLATE {COLLATION}"
    wanted = [field.get_db_prep_value(key, own, prepared=False) for key in keys]
    with own.cursor() as cursor:
        cursor.execute(
            f"DELETE one FROM JSON_TABLE(%s, '$[*]' COLUMNS (wanted {kind} PATH '$')) AS these "
            f"STRAIGHT_JOIN {model._meta.db_table} AS one FORCE INDEX (PRIMARY) "
            f"ON one.{field.column} = these.wanted{compared}",
            [json.dumps(wanted, default=str)],
        )
