"""The row that senders lock against the end of a chain, where that is not its dispatch row.

On PostgreSQL a sender's lock of the dispatch row conflicts with nothing but the chain's end. On MariaDB it would keep
everybody from claiming and releasing the chain, as long as callers have their transactions open: there the chain has
another row, which nothing ever changes. SQLite needs no lock.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db.models import QuerySet

from django_durable.models import Gate
from django_durable.store import database, locks


def are_used() -> bool:
    return database.is_mariadb()


def _rows() -> QuerySet[Gate]:
    return Gate.objects.using(database.alias())


def put_up(chain_ids: Collection[UUID]) -> None:
    """Give chains that begin, or that go on after their end, their gates."""
    if are_used() and chain_ids:
        _rows().bulk_create([Gate(chain_id=chain_id) for chain_id in chain_ids])


def take_down(chain_ids: Collection[UUID]) -> None:
    """Remove the gates of chains that end; this transaction has them shut."""
    if are_used():
        database.delete(Gate, chain_ids)


def held_open(chain_ids: Collection[UUID], *, skip_locked: bool = False) -> set[UUID]:
    """Keep these chains from ending until this transaction ends; those that have not ended before."""
    places, params = database.keys(chain_ids)
    return _locked(places, params, locks.share_lock(skip_locked=skip_locked))


def shut(chain_ids: Collection[UUID]) -> set[UUID]:
    """Keep senders out of these chains until this transaction ends; those that nobody holds open."""
    places, params = database.keys(chain_ids)
    return _locked(places, params, locks.change_lock())


def _locked(places: str, params: list[object], clause: str) -> set[UUID]:
    found = database.select(
        f"SELECT chain_id FROM {Gate._meta.db_table} {locks.by_key()} "
        f"WHERE chain_id IN ({places}) ORDER BY chain_id {clause}",
        params,
    )
    return {database.as_uuid(chain) for [chain] in found}
