"""Messages for chains: sent by anyone, consumed by the owner of the chain's run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from django_durable.history import messages
from django_durable.models import Dispatch, InboxMessage
from django_durable.store import clock, database, dispatch, locks, portions

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


def put_first(chain_id: UUID, earlier: Sequence[messages.Message]) -> None:
    """Put messages that have reached the chain once before those that wait: these are put behind them once more.

    Only for who has the chain's row as for an end. What somebody is just consuming is left to him.
    """
    if not earlier:
        return
    mine = InboxMessage.objects.using(database.alias()).filter(chain_id=chain_id)
    waiting = list(locks.exclusively(mine))
    consume([one.pk for one in waiting])
    insert([(chain_id, message) for message in earlier])
    for one in waiting:
        one.pk = None
    _insert(waiting)


def reach(chain_id: UUID) -> bool:
    """Keep a chain from ending while the caller's transaction is open. False: it has ended.

    The row lock makes the end of the chain wait for this transaction or this send see the end. It conflicts with
    nothing else, and nothing is updated: callers keep their transactions open for whole requests.
    """
    # On SQLite the caller's transaction keeps every end out, so that waiting for one would be in vain.
    patience = time.monotonic() + (CLOSING_PATIENCE if locks.has_row_locks() else 0.0)
    while True:
        if dispatch.reach(chain_id, impatient=time.monotonic() >= patience):
            break
        if not dispatch.existing([chain_id]):
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
    had = dispatch.shared(chains).keys()
    there = chains if had == chains else had | dispatch.existing(chains - had)
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
    database.delete(InboxMessage, ids)


def empty(chains: Collection[UUID]) -> None:
    """Delete whatever waits for these chains, which this transaction has locked against senders."""
    waiting = InboxMessage.objects.using(database.alias()).filter(chain_id__in=chains)
    if database.is_mariadb():
        consume(list(waiting.values_list("pk", flat=True)))
    else:
        waiting._raw_delete(database.alias())


class Awaited(NamedTuple):
    """Chains with messages: ``mine``, those that nobody has or holds, and those that may end without their code.

    ``ending``: nobody has them, and they are to end at once, or before they have begun.
    """

    mine: set[UUID]
    nobodys: set[UUID]
    ending: set[UUID]


# The beginning alone: a large message is not read whole for it.
_BEGINS = "SUBSTR(m.data, 1, %s) = %s"
_ENDS = f"({_BEGINS} OR ({_BEGINS} AND (d.epoch = 0 OR d.hold = '{dispatch.DELAYED}')))"
_ENDING = [
    part
    for kind in (messages.Terminate, messages.Cancel)
    for part in (len(messages.beginning(kind)), messages.beginning(kind))
]
_AWAITED = (
    f"SELECT DISTINCT d.chain_id, d.owner, d.hold, CASE WHEN d.owner IS NULL AND {_ENDS} THEN 1 ELSE 0 END "
    f"FROM {InboxMessage._meta.db_table} m JOIN {Dispatch._meta.db_table} d ON d.chain_id = m.chain_id "
    f"WHERE d.owner = %s OR (d.owner IS NULL AND (d.hold IS NULL OR {_ENDS}))"
)


def awaited(owner: int) -> Awaited:
    """The truth behind all hints."""
    found = Awaited(set(), set(), set())
    for chain, whose, hold, ends in database.select(_AWAITED, [*_ENDING, owner, *_ENDING]):
        chain_id = database.as_uuid(chain)
        if whose is not None:
            found.mine.add(chain_id)
        if whose is None and hold is None:
            found.nobodys.add(chain_id)
        if ends:
            found.ending.add(chain_id)
    return found


def insert(results: Iterable[tuple[UUID, messages.Message]]) -> None:
    """Put messages into inboxes of chains that this transaction has locked against their end."""
    rows = [
        InboxMessage(chain_id=chain_id, data=messages.encode(message), created_at=clock.now())
        for chain_id, message in results
    ]
    _insert(rows)


def _insert(rows: Sequence[InboxMessage]) -> None:
    for some in portions.portions(rows, lambda row: len(row.data)):
        InboxMessage.objects.using(database.alias()).bulk_create(some)
