"""MariaDB's way to the queues and priorities in use: one statement for the next of each, until there is none.

It answers MIN and MAX from an index without reading it only where all else is compared with constants, so that no
recursion serves. Nor may it be told to leave out what has no time; but the smallest of no times is null.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django_durable.store import database

_Place = tuple[str, int | None]  # a queue, and the priority that was reached in it


def levels(queues: Sequence[str], table: str, due: str, waiting: str) -> Iterator[tuple[str, int, Any]]:
    """Queue, priority and the earliest time, as the driver gives it, of all that has one."""
    reached: list[_Place] = [(queue, None) for queue in queues]
    while reached:
        below = _for_each(f"SELECT MAX(priority) FROM {table} WHERE {waiting} AND queue = %s", "priority < %s", reached)
        reached = [
            (queue, priority) for (queue, _), priority in zip(reached, below, strict=True) if priority is not None
        ]
        times = _for_each(f"SELECT MIN({due}) FROM {table} WHERE {waiting} AND queue = %s", "priority = %s", reached)
        for (queue, priority), moment in zip(reached, times, strict=True):
            if moment is not None and priority is not None:
                yield queue, priority, moment


def _for_each(select: str, condition: str, places: Sequence[_Place]) -> list[Any]:
    """One value for each queue, of the priorities that fulfil ``condition``: of all, where none is reached yet."""
    if not places:
        return []
    selects = [select if priority is None else f"{select} AND {condition}" for _, priority in places]
    params = [value for place in places for value in place if value is not None]
    return [value for [value] in database.select(" UNION ALL ".join(selects), params)]


def queues(table: str, waiting: str) -> list[str]:
    """The queues in use, in their order."""
    found: list[str] = []
    while True:
        after = " AND queue > %s" if found else ""
        [[queue]] = database.select(f"SELECT MIN(queue) FROM {table} WHERE {waiting}{after}", found[-1:])
        if queue is None:
            return found
        found.append(queue)
