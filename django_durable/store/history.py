"""Append to and read histories. The primary key (run, sequence) refuses a second writer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import Max

from django_durable.history import codec
from django_durable.history.events import Event, Recorded
from django_durable.models import HistoryEvent
from django_durable.store import clock, database

_TABLE = HistoryEvent._meta.db_table
_COLUMNS = "run_id, sequence, type, schema, time, data"
# One statement whatever the number of rows, so that the server's work does not grow with the SQL's text.
_INSERT_ARRAYS = (
    f"INSERT INTO {_TABLE} ({_COLUMNS}) SELECT * FROM "
    "unnest(%s::uuid[], %s::int[], %s::text[], %s::smallint[], %s::timestamptz[], %s::text[])"
)


class Row(NamedTuple):
    """One event on its way to the table."""

    run_id: UUID
    sequence: int
    type: str
    time: datetime
    data: str

    @classmethod
    def of(cls, run_id: UUID, sequence: int, time: datetime, event: Event) -> Row:
        return cls(run_id, sequence, type(event).__name__, time, codec.encode(event).decode())


def append(rows: Sequence[Row]) -> None:
    """Insert events. Raises ``IntegrityError`` when somebody else wrote one of these places: read again."""
    if not rows:
        return
    with database.cursor() as cursor:
        if database.is_postgres():
            runs, sequences, types, times, data = map(list, zip(*rows, strict=True))
            cursor.execute(_INSERT_ARRAYS, [runs, sequences, types, [codec.SCHEMA] * len(rows), times, data])
        else:
            cursor.executemany(
                f"INSERT INTO {_TABLE} ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s)",
                [
                    (
                        database.key_of(row.run_id),
                        row.sequence,
                        row.type,
                        codec.SCHEMA,
                        clock.adapt(row.time),
                        row.data,
                    )
                    for row in rows
                ],
            )


def read(run_ids: Iterable[UUID]) -> dict[UUID, list[Recorded]]:
    """The histories of these runs, each in order."""
    histories: dict[UUID, list[Recorded]] = defaultdict(list)
    rows = (
        HistoryEvent.objects.using(database.alias())
        .filter(run_id__in=list(run_ids))
        .order_by("run_id", "sequence")
        .values_list("run_id", "sequence", "type", "schema", "time", "data")
    )
    for run_id, sequence, kind, schema, time, data in rows.iterator():
        histories[run_id].append(Recorded(sequence, _aware(time), codec.decode(kind, data, schema)))
    return histories


def last_sequence(run_id: UUID) -> int:
    """The sequence of a run's latest event, 0 for none."""
    events = HistoryEvent.objects.using(database.alias()).filter(run_id=run_id)
    return events.aggregate(last=Max("sequence"))["last"] or 0


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
