"""Updates: a row for each, where its caller finds the reply. Answered by the owner's flush, kept after the end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec

from django_durable.history.replies import State
from django_durable.models import Update
from django_durable.store import clock, database

KEEP = timedelta(days=1)  # how long replies are kept after the end of their chain
BATCH = 1_000

_TABLE = Update._meta.db_table


class Reply(NamedTuple):
    """What has become of an update; ``result`` and ``failure`` as they are stored."""

    chain_id: UUID
    update_id: str
    run_id: UUID | None
    state: State
    result: str | None = None
    failure: str | None = None


def add(chain_id: UUID, update_id: str, name: str) -> bool:
    """Make a place for the reply, in the caller's transaction. False: that update was sent before.

    Meeting one that is not yet committed, this waits for that transaction's end.
    """
    now, params = clock.sql()
    with database.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_TABLE} (chain_id, update_id, name, state, created_at) VALUES (%s, %s, %s, %s, {now}) "
            "ON CONFLICT DO NOTHING",
            [database.key_of(chain_id), update_id, name, State.SENT, *params],
        )
        return bool(cursor.rowcount)


def read(chain_id: UUID, update_id: str) -> Reply | None:
    """What has become of an update so far; None if there is no such."""
    found = Update.objects.using(database.alias()).filter(chain_id=chain_id, update_id=update_id)
    row = found.values_list("chain_id", "update_id", "run_id", "state", "result", "failure").first()
    return Reply(*row[:3], State(row[3]), *row[4:]) if row else None


def state(chain_id: UUID, update_id: str) -> State | None:
    """How far an update has come; None if there is no such."""
    found = Update.objects.using(database.alias()).filter(chain_id=chain_id, update_id=update_id)
    value = found.values_list("state", flat=True).first()
    return State(value) if value else None


def answer(replies: Sequence[Reply]) -> None:
    """Write replies. Nobody else locks these rows: their senders have committed, and only ever insert."""
    if not replies:
        return
    if database.is_postgres():
        _answer_at_once(replies)
    else:
        _answer_each(replies)


_ANSWER = f"""
UPDATE {_TABLE} AS u
SET run_id = reply.run_id, state = reply.state, result = reply.result, failure = reply.failure,
    closed_at = CASE WHEN reply.state <> '{State.ACCEPTED}' THEN {{now}} END
FROM (SELECT * FROM json_to_recordset(%s::json)
    AS row(chain_id uuid, update_id text, run_id uuid, state text, result text, failure text) LIMIT %s) AS reply
WHERE u.chain_id = reply.chain_id AND u.update_id = reply.update_id AND u.closed_at IS NULL
"""


def _answer_at_once(replies: Sequence[Reply]) -> None:
    now, params = clock.sql()
    records = msgspec.json.encode([reply._asdict() for reply in replies]).decode()
    with database.cursor() as cursor:
        cursor.execute(_ANSWER.format(now=now), [*params, records, len(replies)])


def _answer_each(replies: Sequence[Reply]) -> None:
    for reply in replies:
        place = Update.objects.using(database.alias()).filter(chain_id=reply.chain_id, update_id=reply.update_id)
        place.filter(closed_at__isnull=True).update(
            run_id=reply.run_id,
            state=reply.state,
            result=reply.result,
            failure=reply.failure,
            closed_at=None if reply.state is State.ACCEPTED else clock.now(),
        )


def prune() -> int:
    """Delete replies whose time is over; returns how many there were."""
    total = 0
    now, params = clock.sql()
    # By the place where a row lies: a planner that has to join a thousand keys would rather read the table whole.
    expired = f"FROM {_TABLE} WHERE expires_at < {now} LIMIT {BATCH}"
    theirs = (
        f"ctid = ANY(ARRAY(SELECT ctid {expired}))" if database.is_postgres() else f"rowid IN (SELECT rowid {expired})"
    )
    while True:
        with database.writing(), database.cursor() as cursor:
            cursor.execute(f"DELETE FROM {_TABLE} WHERE {theirs}", params)
            deleted = int(cursor.rowcount)
        total += deleted
        if deleted < BATCH:
            return total
