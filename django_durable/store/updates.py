"""Updates: a row for each, where its caller finds the reply. Answered by the owner's flush, kept after the end."""

from __future__ import annotations

import hashlib
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
    return _insert(chain_id, update_id, name, State.SENT)


def claim_key(chain_id: UUID, key: str, name: str, digest: str) -> bool:
    """Note in the caller's transaction that a chain has got the message ``name`` under an idempotency key.

    It stands among the chain's updates, answered from the beginning, and is forgotten with them. ``digest``: of what
    came with the key. False: the key was claimed before.
    """
    return _insert(chain_id, _place_of(key), name, State.COMPLETED, digest)


def claimed_digest(chain_id: UUID, key: str) -> str | None:
    """What came with an idempotency key; None: the chain has never got it."""
    found = read(chain_id, _place_of(key))
    return found.result if found is not None else None


def _insert(chain_id: UUID, update_id: str, name: str, state: State, result: str | None = None) -> bool:
    """``result``: that it is answered, by this."""
    now, params = clock.sql()
    with database.cursor() as cursor:
        cursor.execute(
            database.unless_there(
                f"INSERT INTO {_TABLE} (chain_id, update_id, name, state, result, created_at, closed_at) "
                f"VALUES (%s, %s, %s, %s, %s, {now}, CASE WHEN %s THEN {now} END)"
            ),
            [database.key_of(chain_id), update_id, name, state, result, *params, result is not None, *params],
        )
        return bool(cursor.rowcount)


def _place_of(key: str) -> str:
    """Where no update of a caller's can be: its ids are printable."""
    return "\t" + hashlib.sha256(key.encode()).hexdigest()


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
    if database.is_mariadb():
        delete = f"DELETE {expired}"
    elif database.is_postgres():
        delete = f"DELETE FROM {_TABLE} WHERE ctid = ANY(ARRAY(SELECT ctid {expired}))"
    else:
        delete = f"DELETE FROM {_TABLE} WHERE rowid IN (SELECT rowid {expired})"
    while True:
        with database.writing(), database.cursor() as cursor:
            cursor.execute(delete, params)
            deleted = int(cursor.rowcount)
        total += deleted
        if deleted < BATCH:
            return total
