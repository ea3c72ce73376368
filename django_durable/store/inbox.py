"""Messages for chains: sent by anyone, consumed by the owner of the chain's run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from django_durable.history import messages
from django_durable.models import Dispatch, InboxMessage
from django_durable.store import clock, database, dispatch

CLOSING_STEP = 0.02  # seconds between two looks at a chain that is about to end
CLOSING_PATIENCE = 2.0  # seconds after which a message is sent to such a chain anyway


class Waiting(NamedTuple):
    """A message that is not yet an event."""

    id: int
    message: messages.Message | messages.Unreadable


def send(chain_id: UUID, message: messages.Message) -> bool:
    """Put ``message`` into the inbox of an open chain, in the caller's transaction. False: the chain has ended."""
    if not reach(chain_id):
        return False
    put(chain_id, message)
    return True


def put(chain_id: UUID, message: messages.Message) -> None:
    """Put ``message`` into the inbox of a chain that ``reach`` has found open."""
    insert([(chain_id, message)])


def reach(chain_id: UUID) -> bool:
    """Keep a chain from ending while the caller's transaction is open. False: it has ended.

    The row lock makes the end of the chain wait for this transaction or this send see the end. It conflicts with
    nothing else, and nothing is updated: callers keep their transactions open for whole requests.
    """
    chain = Dispatch.objects.using(database.alias()).filter(pk=chain_id)
    # On SQLite the caller's transaction keeps every end out, so that waiting for one would be in vain.
    patience = time.monotonic() + (CLOSING_PATIENCE if database.is_postgres() else 0.0)
    while True:
        impatient = time.monotonic() >= patience
        # A closing chain is not locked while it is waited for: that would be what keeps it from ending.
        if database.key_share((chain if impatient else chain.filter(closing=False)).values_list("pk")):
            break
        if not chain.exists():
            return False
        time.sleep(CLOSING_STEP)
    return True


def step_back(chain_id: UUID) -> None:
    """Outside of any transaction: let a chain end that has asked senders for it; wait for two seconds at most."""
    closing = Dispatch.objects.using(database.alias()).filter(pk=chain_id, closing=True)
    patience = time.monotonic() + CLOSING_PATIENCE
    while closing.exists() and time.monotonic() < patience:
        time.sleep(CLOSING_STEP)


def deliver(results: Sequence[tuple[UUID, messages.Message]]) -> list[bool | None]:
    """Send from the engine, which never waits for a lock: True sent, False the chain is gone, None busy for now."""
    if not results:
        return []
    chains = {chain_id for chain_id, _ in results}
    had = {
        database.as_uuid(row[0])
        for row in database.key_share(
            Dispatch.objects.using(database.alias()).filter(pk__in=chains).values_list("pk"), skip_locked=True
        )
    }
    there = had if had == chains else had | dispatch.existing(chains - had)
    insert([result for result in results if result[0] in had])
    return [True if chain in had else None if chain in there else False for chain, _ in results]


def read(chain_ids: Collection[UUID]) -> dict[UUID, list[Waiting]]:
    """What waits for these chains, in the order in which it was sent."""
    waiting: dict[UUID, list[Waiting]] = defaultdict(list)
    if not chain_ids:
        return waiting
    places, params = database.keys(chain_ids)
    rows = database.select(
        f"SELECT chain_id, id, data FROM {InboxMessage._meta.db_table} WHERE chain_id IN ({places}) ORDER BY id", params
    )
    for chain_id, key, data in rows:
        waiting[database.as_uuid(chain_id)].append(Waiting(key, messages.decode(data)))
    return waiting


def answered(places: Collection[tuple[UUID, str]]) -> set[tuple[UUID, str]]:
    """Which of these activities, given by (chain, key), have an outcome waiting."""
    found = {
        (chain, one.message.key)
        for chain, rows in read({chain for chain, _ in places}).items()
        for one in rows
        if isinstance(one.message, messages.ActivityResult)
    }
    return found & set(places)


def consume(ids: Sequence[int]) -> None:
    """Delete messages whose events are written in this transaction. Only the rows that were read: no water mark."""
    if ids:
        InboxMessage.objects.using(database.alias()).filter(pk__in=ids)._raw_delete(database.alias())


def owners_of_waiting(owner: int) -> tuple[set[UUID], set[UUID]]:
    """The truth behind all hints: chains with messages that ``owner`` has, and those that nobody has or holds."""
    mine: set[UUID] = set()
    nobodys: set[UUID] = set()
    sql = (
        f"SELECT DISTINCT d.chain_id, d.owner FROM {InboxMessage._meta.db_table} m "
        f"JOIN {Dispatch._meta.db_table} d ON d.chain_id = m.chain_id "
        "WHERE d.owner = %s OR (d.owner IS NULL AND d.hold IS NULL)"
    )
    with database.cursor() as cursor:
        cursor.execute(sql, [owner])
        for chain_id, whose in cursor.fetchall():
            (nobodys if whose is None else mine).add(database.as_uuid(chain_id))
    return mine, nobodys


def insert(results: Iterable[tuple[UUID, messages.Message]]) -> None:
    """Put messages into inboxes of chains that this transaction has locked against their end."""
    rows = [
        InboxMessage(chain_id=chain_id, data=messages.encode(message), created_at=clock.now())
        for chain_id, message in results
    ]
    if rows:
        InboxMessage.objects.using(database.alias()).bulk_create(rows)
