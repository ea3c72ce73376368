"""Append to and read histories. The primary key (run, sequence) refuses a second writer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db.models import Max
from django.db.models.functions import Left, Length

from django_durable.history import codec
from django_durable.history.events import Event, Recorded
from django_durable.models import HistoryEvent
from django_durable.store import clock, database, locks

_TABLE = HistoryEvent._meta.db_table
_COLUMNS = "run_id, sequence, type, schema, time, data"
# One statement whatever the number of rows, and one parameter: a driver quotes one long text ten times as fast as an
# array of many. The json type keeps every text as it is.
_INSERT_JSON = (
    f"INSERT INTO {_TABLE} ({_COLUMNS}) SELECT {_COLUMNS} FROM json_to_recordset(%s::json) "
    "AS row(run_id uuid, sequence int, type text, schema smallint, time timestamptz, data text)"
)


class Row(msgspec.Struct, frozen=True, gc=False):
    """One event on its way to the table, its fields named as the columns are."""

    run_id: UUID
    sequence: int
    type: str
    time: datetime
    data: str
    schema: int = codec.SCHEMA

    @classmethod
    def of(cls, run_id: UUID, sequence: int, time: datetime, event: Event) -> Row:
        return cls(run_id, sequence, type(event).__name__, time, codec.encode(event).decode())


class Stored(NamedTuple):
    """An event as it stands in the table, unread. ``data`` may be cut; ``size`` counts all its characters."""

    sequence: int
    type: str
    schema: int
    time: datetime
    data: str
    size: int


def append(rows: Sequence[Row]) -> None:
    """Insert events. Raises ``IntegrityError`` when somebody else wrote one of these places: read again."""
    if not rows:
        return
    if database.is_postgres():
        _append_at_once(rows)
    else:
        _append_each(rows)


def _append_at_once(rows: Sequence[Row]) -> None:
    with database.cursor() as cursor:
        cursor.execute(_INSERT_JSON, [msgspec.json.encode(rows).decode()])


def _append_each(rows: Sequence[Row]) -> None:
    with database.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {_TABLE} ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s)",
            [
                (database.key_of(row.run_id), row.sequence, row.type, row.schema, clock.adapt(row.time), row.data)
                for row in rows
            ],
        )


def begun(run_ids: Collection[UUID]) -> set[UUID]:
    """Which of these runs have a first event."""
    places, params = database.keys(run_ids)
    found = database.select(f"SELECT run_id FROM {_TABLE} WHERE run_id IN ({places}) AND sequence = 1", params)
    return {database.as_uuid(run_id) for [run_id] in found}


def read(run_ids: Collection[UUID]) -> dict[UUID, list[Recorded]]:
    """The histories of these runs, each in order. Raises ``UnreadableEvent``."""
    return defaultdict(list, {run_id: list(recorded) for run_id, recorded in read_lazily(run_ids).items()})


def read_lazily(run_ids: Collection[UUID]) -> dict[UUID, Iterator[Recorded]]:
    """The histories of these runs, each event decoded when its turn comes: what cannot be read concerns one run only.

    A run without events is left out. Raises ``UnreadableEvent`` when an event is taken.
    """
    histories: dict[UUID, list[_Found]] = defaultdict(list)
    places, params = database.keys(run_ids)
    found = database.select(
        f"SELECT run_id, sequence, type, schema, time, data FROM {_TABLE} "
        f"WHERE run_id IN ({places}) ORDER BY run_id, sequence",
        params,
    )
    for run_id, *row in found:
        histories[database.as_uuid(run_id)].append(row)
    return {run_id: map(_recorded, rows) for run_id, rows in histories.items()}


def read_of_kinds(run_ids: Collection[UUID], kinds: Collection[type[Event]]) -> Iterator[tuple[UUID, Recorded]]:
    """The events of these kinds of these runs, run by run in order. Raises ``UnreadableEvent``."""
    rows = HistoryEvent.objects.using(database.alias()).filter(run_id__in=run_ids)
    rows = rows.filter(type__in=[kind.__name__ for kind in kinds]).order_by("run_id", "sequence")
    for run_id, *row in rows.values_list("run_id", "sequence", "type", "schema", "time", "data").iterator():
        yield run_id, _recorded(row)


def read_page(run_id: UUID, *, after: int, limit: int) -> list[Recorded]:
    """At most ``limit`` events of a run behind the sequence ``after``, in order. Raises ``UnreadableEvent``."""
    found = database.select(
        f"SELECT sequence, type, schema, time, data FROM {_TABLE} "
        "WHERE run_id = %s AND sequence > %s ORDER BY sequence LIMIT %s",
        [database.key_of(run_id), after, limit],
    )
    return [_recorded(list(row)) for row in found]


_Found = list[Any]  # sequence, type, schema, time, data


def _recorded(row: _Found) -> Recorded:
    sequence, kind, schema, time, data = row
    return codec.record(sequence, clock.as_moment(time), kind, data, schema)


def page(run_id: UUID, after_sequence: int, limit: int, *, data_limit: int) -> list[Stored]:
    """The next ``limit`` events of a run, each with at most ``data_limit`` characters of its data: for people to see.

    Nothing is decoded, so neither a long history nor a damaged event can keep anybody from looking at it.
    """
    rows = (
        HistoryEvent.objects.using(database.alias())
        .filter(run_id=run_id, sequence__gt=after_sequence)
        .order_by("sequence")
        .annotate(start=Left("data", data_limit), size=Length("data"))
        .values_list("sequence", "type", "schema", "time", "start", "size")
    )
    return [
        Stored(sequence, kind, schema, clock.as_moment(time), data, size)
        for sequence, kind, schema, time, data, size in rows[:limit]
    ]


def copy(from_run: UUID, to_run: UUID, count: int) -> None:
    """Give a run the first ``count`` events of another, as they are."""
    columns = "sequence, type, schema, time, data"
    with database.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_TABLE} (run_id, {columns}) SELECT %s, {columns} FROM {_TABLE} "
            "WHERE run_id = %s AND sequence <= %s",
            [database.key_of(to_run), database.key_of(from_run), count],
        )


class Last(NamedTuple):
    """A run's latest event, unread."""

    sequence: int
    type: str
    time: datetime


def last(run_id: UUID) -> Last:
    """A run's latest event; there is one from its start on."""
    rows = HistoryEvent.objects.using(database.alias()).filter(run_id=run_id).order_by("-sequence")
    return Last(*rows.values_list("sequence", "type", "time")[0])


def last_sequence(run_id: UUID) -> int:
    """The sequence of a run's latest event, 0 for none."""
    events = HistoryEvent.objects.using(database.alias()).filter(run_id=run_id)
    return events.aggregate(last=Max("sequence"))["last"] or 0


def after_last(ends: Sequence[tuple[UUID, Event]]) -> list[Row]:
    """These events as the next ones of their runs, now; a run that is still to begin ends when it would have begun.

    For who writes from outside: the owner knows its places by itself.
    """
    if not ends:
        return []
    now = clock.read()
    events = HistoryEvent.objects.using(database.alias()).filter(run_id__in=[run_id for run_id, _ in ends])
    latest = events.order_by().values("run_id").annotate(last=Max("sequence"), at=Max("time"))
    places = {one["run_id"]: (one["last"], one["at"]) for one in latest}
    return [Row.of(run_id, places[run_id][0] + 1, max(now, places[run_id][1]), event) for run_id, event in ends]


def holds(row: Row) -> bool:
    """Whether just this event stands in its place.

    Waits, where that can be, for a transaction that is putting it there.
    """
    found = database.select(
        f"SELECT type, data FROM {_TABLE} WHERE run_id = %s AND sequence = %s {locks.settled_lock()}",
        [database.key_of(row.run_id), row.sequence],
    )
    return [*found] == [(row.type, row.data)]
