"""Runs that nobody has and that end without their code, whatever keeps them from being claimed.

A limited or paused queue, a paused workflow, or missing code makes runs wait; their time limits go on, and what has not
begun can be cancelled.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django_durable.client import ending
from django_durable.store import database, outside


def sweep(asked: Collection[UUID]) -> int:
    """End runs whose deadline has passed, and those of ``asked`` that have been asked to; returns how many."""
    with database.sweeping():
        ended = outside.time_out_late()
        ending.tell(ended)
    if asked:
        with database.sweeping():
            cancelled = outside.end_asked(asked)
            ending.tell(cancelled)
            ended |= cancelled
    return len(ended)
