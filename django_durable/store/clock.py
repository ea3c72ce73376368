"""The clock of the store: the database's, unless a test makes it stand still."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import DurationField, Expression, ExpressionWrapper, Func, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast

from django_durable import moments
from django_durable.moments import MomentField
from django_durable.store import database

_UTC_TIMESTAMP = "UTC_TIMESTAMP(6)"

_still: datetime | None = None


def stand_still_at(moment: datetime | None) -> None:
    """Make ``moment`` every reading of the clock, in this process: time skipping for tests. None: it goes again."""
    global _still
    _still = moment


class StatementTimestamp(Func):
    """The time at which the current statement began. Stable within a statement, so an index can be used with it."""

    template = "STATEMENT_TIMESTAMP()"
    output_field = MomentField()


class UtcTimestamp(Func):
    """The same on MariaDB. Its other clocks, and Django's ``Now()``, tell the session's local time."""

    template = _UTC_TIMESTAMP
    output_field = MomentField()


class ClockTimestamp(Func):
    """The time of evaluation, also after the statement has waited for a lock."""

    template = "CLOCK_TIMESTAMP()"
    output_field = MomentField()


def now(*, after_locks: bool = False) -> Expression | Combinable:
    """The clock as an SQL expression. Never the transaction's start, which is old after any wait.

    SQLite has no clock but this machine's own, so its reading is a value of microsecond precision. MariaDB has none
    ``after_locks``: only in a statement that follows the one that has taken them.
    """
    if _still is not None and database.is_mariadb():
        return Cast(value(_still), MomentField())  # which would be text where it is selected
    if _still is not None or database.has_no_clock():
        return value(_still or datetime.now(UTC))
    if database.is_mariadb():
        return UtcTimestamp()
    return ClockTimestamp() if after_locks else StatementTimestamp()


def plus(moment: Any, delay: timedelta) -> Expression | Combinable:
    """``moment`` (an expression) moved by ``delay``."""
    if isinstance(moment, Value):
        return value(moment.value + delay)
    return ExpressionWrapper(moment + Value(delay, output_field=DurationField()), output_field=MomentField())


def value(moment: datetime | None) -> Value:
    """``moment`` as an SQL expression."""
    return Value(moment, output_field=MomentField())


def sql(*, indexed: bool = False) -> tuple[str, list[Any]]:
    """The clock for handwritten SQL: a fragment and its parameters.

    ``indexed``: to be compared with an indexed column, so it stands still while the statement lasts.
    """
    if database.has_no_clock() or (_still is not None and database.is_mariadb()):
        return "%s", [adapt(_still or datetime.now(UTC))]
    if database.is_mariadb():
        return _UTC_TIMESTAMP, []
    if _still is not None:
        return "%s::timestamptz", [_still]
    return ("STATEMENT_TIMESTAMP()" if indexed else "CLOCK_TIMESTAMP()"), []


def adapt(moment: datetime | None) -> Any:
    """``moment`` as this database's driver takes it."""
    return None if moment is None else moments.as_written(moment, database.connection())


def as_moment(value: datetime | str) -> datetime:
    """A time as handwritten SQL gives it, aware and in UTC."""
    if isinstance(value, datetime) and value.tzinfo is UTC:  # what it nearly always is, for the sake of long histories
        return value
    return moments.as_read(value, database.connection())


def read() -> datetime:
    """Ask the database for the time."""
    if _still is not None or database.has_no_clock():
        return _still or datetime.now(UTC)
    with database.cursor() as cursor:
        cursor.execute(f"SELECT {_UTC_TIMESTAMP if database.is_mariadb() else 'CLOCK_TIMESTAMP()'}")
        return as_moment(cursor.fetchone()[0])


class Estimate:
    """The database's time between two readings, carried on by this process's monotonic clock.

    A reading is older than its arrival, so the estimate is never ahead of the database: no timer fires early.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: datetime | None = None
        self._at = 0.0

    def update(self, reading: datetime) -> None:
        """Take note of a reading that has just arrived."""
        with self._lock:
            self._read, self._at = reading, time.monotonic()

    def now(self) -> datetime:
        with self._lock:
            reading, at = self._read, self._at
        if reading is None or _still is not None:
            return read()
        return reading + timedelta(seconds=time.monotonic() - at)
