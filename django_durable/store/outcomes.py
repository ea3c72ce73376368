"""The one outcome of each atomic activity: (chain, key) is unique, so whoever comes second loses."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django_durable.models import ActivityOutcome, ActivityTask, Dispatch
from django_durable.store import database, locks

_TABLE = ActivityOutcome._meta.db_table


class Outcome(NamedTuple):
    """What is decided about an activity. ``result`` None: it was settled against the activity."""

    result: str | None
    attempt: int


class Claim(NamedTuple):
    """By what right an atomic attempt may commit: as the run's owner, or as the holder of its task row."""

    chain_id: UUID
    key: str
    worker: int
    attempt: int


def record_success(claim: Claim, result: str) -> str | None:
    """The last statement of an atomic activity's transaction. None: this worker may not commit it any more.

    Returns the transaction's id where the database has one, else "". The row lock on the fence keeps the chain's
    end, and whoever wants to settle this activity, out until the commit. Raises ``IntegrityError`` if the activity
    has an outcome already.
    """
    chain = database.key_of(claim.chain_id)
    as_owner = f"FROM {Dispatch._meta.db_table} WHERE chain_id = %s AND owner = %s"
    as_holder = (
        f"FROM {ActivityTask._meta.db_table} WHERE chain_id = %s AND {_key()} = %s AND worker = %s AND attempt = %s"
    )
    for source, params in (
        (as_owner, [chain, claim.worker]),
        (as_holder, [chain, claim.key, claim.worker, claim.attempt]),
    ):
        inserted = _insert_from(source, params, [claim.key, result, claim.attempt])
        if inserted is not None:
            return inserted
    return None


def _insert_from(source: str, params: list[Any], values: list[Any]) -> str | None:
    insert = f"INSERT INTO {_TABLE} (chain_id, {_key()}, result, attempt) SELECT chain_id, %s, %s, %s {source}"
    with database.cursor() as cursor:
        if not database.is_postgres():
            cursor.execute(f"{insert} {locks.share_lock()}", [*values, *params])
            return "" if cursor.rowcount == 1 else None
        cursor.execute(f"{insert} FOR KEY SHARE RETURNING pg_current_xact_id()::text", [*values, *params])
        row = cursor.fetchone()
        return row[0] if row else None


def _key() -> str:
    """The name of the column, which is a word of MariaDB's own."""
    return database.connection().ops.quote_name("key")


def settle(keys: Sequence[tuple[UUID, str]]) -> None:
    """Decide against these activities.

    The caller holds their chains and task rows as for an end, and has seen that none of them has succeeded.
    """
    rows = [ActivityOutcome(chain_id=chain, key=key, result=None) for chain, key in keys]
    if rows:
        ActivityOutcome.objects.using(database.alias()).bulk_create(rows, ignore_conflicts=True)


def forget(chain_id: UUID, keys: Collection[str]) -> None:
    """Let these activities be decided once more."""
    if keys:
        ActivityOutcome.objects.using(database.alias()).filter(chain_id=chain_id, key__in=keys).delete()


def read_settled(place: tuple[UUID, str]) -> Outcome | None:
    """The outcome of an activity. Waits, where that can be, for a transaction that is deciding it."""
    chain_id, key = place
    found = database.select(
        f"SELECT result, attempt FROM {_TABLE} WHERE chain_id = %s AND {_key()} = %s {locks.settled_lock()}",
        [database.key_of(chain_id), key],
    )
    return Outcome(*found[0]) if found else None


def read(keys: Collection[tuple[UUID, str]]) -> dict[tuple[UUID, str], Outcome]:
    """The outcomes that are decided, by (chain, key)."""
    if not keys:
        return {}
    rows = ActivityOutcome.objects.using(database.alias()).filter(
        chain_id__in={chain for chain, _ in keys}, key__in=[key for _, key in keys]
    )
    return {
        (chain, key): Outcome(result, attempt)
        for chain, key, result, attempt in rows.values_list("chain_id", "key", "result", "attempt")
        if (chain, key) in keys
    }
