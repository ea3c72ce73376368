"""The table of events in parts, one for each month, where somebody has asked for it: PostgreSQL's own partitioning.

The events of a run lie in the part of the month in which it began, as its id tells. A month of which no run is left is
dropped as a whole. What was there before is one part, which is never dropped: ids without a time belong there too.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import OperationalError

from django_durable.models import HistoryEvent, PrunedRun
from django_durable.payloads import sealing
from django_durable.store import database, outages, runs

MONTHS_AHEAD = 2  # that there are parts for
MARGIN = timedelta(days=2)  # more than clocks differ, and than it takes to look at every event once
LOCK_TIMEOUT = "2s"  # of who introduces it: others wait behind who waits for a lock of the table

_TABLE = HistoryEvent._meta.db_table
_PAST, _REST = f"{_TABLE}_past", f"{_TABLE}_rest"
_CHECK = f"{_TABLE}_before"
_IDS = re.compile(r"'([0-9a-f-]{36})'")


class Part(NamedTuple):
    """A table that holds the events of runs from ``start`` up to but not ``end``; None: there is no such limit."""

    name: str
    start: UUID | None
    end: UUID | None
    bytes: int


def parts() -> list[Part]:
    """The parts of the table, the oldest first. Empty: it is one table, as on every other database."""
    if not database.is_postgres():
        return []
    found = database.select(
        "SELECT part.relname, pg_get_expr(part.relpartbound, part.oid), pg_total_relation_size(part.oid) "
        "FROM pg_inherits JOIN pg_class part ON part.oid = inhrelid WHERE inhparent = to_regclass(%s)",
        [_TABLE],
    )
    there = [_part(*row) for row in found if None not in row]  # of one that is just being dropped nothing is known
    return sorted(there, key=lambda part: (part.name == _REST, str(part.start or "")))


def _part(name: str, bounds: str, size: int) -> Part:
    ids = [UUID(text) for text in _IDS.findall(bounds)]  # FOR VALUES FROM ('...') TO ('...'), MINVALUE, or DEFAULT
    return Part(name, ids[0] if len(ids) == 2 else None, ids[-1] if ids else None, size)


def first_id(moment: datetime) -> UUID:
    """Lower than the id of any run that begins at ``moment`` or later, and higher than those before."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def moment_of(run_id: UUID) -> datetime:
    """When a run of that id has begun."""
    return datetime.fromtimestamp((run_id.int >> 80) / 1000, UTC)


def month_after(moment: datetime) -> datetime:
    """The beginning of the next month, in UTC."""
    return (moment.astimezone(UTC).replace(day=1) + timedelta(days=32)).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )


def introduce(now: datetime) -> None:
    """Make the table that there is the first part of one with parts. Everybody may go on meanwhile.

    Its rows stay where they are: each is looked at once, without a lock, and for the change itself the table is locked
    for some milliseconds. Raises ``OperationalError`` if others keep it locked: it is one table then, as before.
    """
    end = month_after(now + MARGIN)
    withdraw()
    try:
        with database.writing():
            _execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            _execute(f"ALTER TABLE {_TABLE} ADD CONSTRAINT {_CHECK} CHECK (run_id < '{first_id(end)}') NOT VALID")
        _execute(f"ALTER TABLE {_TABLE} VALIDATE CONSTRAINT {_CHECK}")
        with database.writing():
            _execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            _divide(first_id(end))
    except BaseException:
        with suppress(OperationalError):  # still locked, or the connection is lost: workers do it in time
            withdraw()
        raise
    extend(now)


def _divide(end: UUID) -> None:
    _execute(f"ALTER TABLE {_TABLE} RENAME TO {_PAST}")
    _execute(f"CREATE TABLE {_TABLE} (LIKE {_PAST} INCLUDING DEFAULTS INCLUDING INDEXES) PARTITION BY RANGE (run_id)")
    _execute(f"ALTER TABLE {_TABLE} ATTACH PARTITION {_PAST} FOR VALUES FROM (MINVALUE) TO ('{end}')")
    _execute(f"ALTER TABLE {_PAST} DROP CONSTRAINT {_CHECK}")
    _execute(f"CREATE TABLE {_REST} PARTITION OF {_TABLE} DEFAULT")
    granted = database.select(
        "SELECT DISTINCT grantee::text, privilege_type::text FROM information_schema.table_privileges "
        "WHERE table_schema = current_schema() AND table_name = %s",
        [_PAST],
    )
    for grantee, privilege in granted:
        role = "PUBLIC" if grantee == "PUBLIC" else database.connection().ops.quote_name(grantee)
        _execute(f"GRANT {privilege} ON {_TABLE} TO {role}")


def withdraw(*, before: datetime | None = None) -> None:
    """Undo what somebody has left who was about to introduce parts; ``before``: if it will be in the way by then.

    It refuses events of runs that begin in a later month. Raises ``OperationalError`` if others keep the table locked.
    """
    found = database.select(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = to_regclass(%s) AND conname = %s",
        [_TABLE, _CHECK],
    )
    if found and (before is None or UUID(_IDS.findall(found[0][0])[0]) < first_id(before)):
        with database.sweeping():  # who waits for such a lock has everybody wait behind him
            _execute(f"ALTER TABLE {_TABLE} DROP CONSTRAINT IF EXISTS {_CHECK}")


def extend(now: datetime) -> None:
    """Add the parts of this month and of the next ones that there are not yet."""
    until = now
    for _ in range(MONTHS_AHEAD):
        until = month_after(until)
    start = moment_of(max(part.end for part in parts() if part.end is not None))
    while start <= until:
        end = month_after(start)
        _add(start, end)
        start = end


def _add(start: datetime, end: datetime) -> None:
    """A part, with what was put beside it because nobody has added it in time."""
    name, low, high = f"{_TABLE}_{start:%Y_%m}", first_id(start), first_id(end)
    with database.sweeping():
        _execute(f"LOCK TABLE {_TABLE} IN SHARE UPDATE EXCLUSIVE MODE")  # one at a time
        if any(part.name == name for part in parts()):
            return
        _execute(f"CREATE TABLE {name} (LIKE {_TABLE} INCLUDING DEFAULTS INCLUDING INDEXES)")
        _execute(
            f"WITH late AS (DELETE FROM {_REST} WHERE run_id >= '{low}' AND run_id < '{high}' RETURNING *) "
            f"INSERT INTO {name} SELECT * FROM late"
        )
        _execute(f"ALTER TABLE {_TABLE} ATTACH PARTITION {name} FOR VALUES FROM ('{low}') TO ('{high}')")


def drop_gone(now: datetime) -> list[str]:
    """Drop the months of which no run is left, with all their events; returns the names of the parts.

    A month of which a codec keeps values elsewhere waits until these are deleted, row by row.
    """
    over = first_id(now - MARGIN)
    months = [(name, start, end) for name, start, end, _ in parts() if start is not None and end is not None]
    return [name for name, start, end in months if end < over and _drop(name, start, end)]


def _drop(name: str, start: UUID, end: UUID) -> bool:
    if runs.rows().filter(pk__gte=start, pk__lt=end).exists():
        return False
    pruned = PrunedRun.objects.using(database.alias()).filter(pk__gte=start, pk__lt=end)
    with database.sweeping():
        if sealing.current().offloading and pruned.exists():
            return False
        pruned._raw_delete(database.alias())
        _execute(f"DROP TABLE IF EXISTS {name}")
    return True


def keep_up(now: datetime) -> list[str]:
    """What has to be done from time to time; returns the names of parts that were dropped.

    What somebody else has locked is left for the next time.
    """
    if not database.is_postgres():
        return []
    try:
        withdraw(before=now + MARGIN / 2)
        if not parts():
            return []
        extend(now)
        return drop_gone(now)
    except OperationalError as error:
        if not outages.is_conflict(error):
            raise
        return []


def _execute(sql: str) -> None:
    with database.cursor() as cursor:
        cursor.execute(sql)
