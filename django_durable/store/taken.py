"""Open runs whose id, subject or singleton key a new run would have too, where an insert should not find that out.

On PostgreSQL an insert that meets a key leaves it alone. On MariaDB it locks the key until the caller's transaction
ends, and the run that has it could not end: the engine would wait for a caller. So what is seen to be taken is not
tried there. Its chain is kept from ending, as by a sender: the engine sees that, and waits for nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

from django_durable.models import WorkflowRun
from django_durable.store import database, gates

_KEYS = ("open_workflow_id", "open_subject", "open_singleton")


def apart_from_taken(new: Sequence[WorkflowRun]) -> list[WorkflowRun]:
    """Those of these rows that may be tried: what they would meet is not there, or just ending."""
    if not gates.are_used():
        return list(new)
    holders = {place: chain for name in _KEYS for place, chain in _holders(name, new)}
    if not holders:
        return list(new)
    held = gates.held_open(set(holders.values()), skip_locked=True)
    return [row for row in new if not {holders.get(place) for place in _places(row)} & held]


def _holders(name: str, new: Sequence[WorkflowRun]) -> Iterator[tuple[tuple[str, str], UUID]]:
    wanted = {value for row in new if (value := getattr(row, name)) is not None and value != str(row.pk)}
    if wanted:
        rows = WorkflowRun.objects.using(database.alias()).filter(**{f"{name}__in": wanted})
        for value, chain in rows.values_list(name, "chain_id"):
            yield (name, value), chain


def _places(row: WorkflowRun) -> list[tuple[str, str]]:
    return [(name, getattr(row, name)) for name in _KEYS]
