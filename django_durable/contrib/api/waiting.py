"""Waiting for workers in a request: bounded, and without a connection between two looks at the database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from asgiref.sync import sync_to_async

from django_durable.contrib.api import options
from django_durable.store import database


def bounded(seconds: float | None) -> float:
    """How long a request may wait that wants to wait so long; None: as long as is allowed."""
    allowed = options.current().MAX_WAIT_SECONDS
    return allowed if seconds is None else min(seconds, allowed)


async def through(pauses: Iterator[float]) -> bool:
    """Go through the looks of a wait. False: its time was over first."""
    while True:
        try:
            pause = await sync_to_async(_look)(pauses)
        except TimeoutError:
            return False
        if pause is None:
            return True
        await asyncio.sleep(pause)


def _look(pauses: Iterator[float]) -> float | None:
    pause = next(pauses, None)
    if pause is not None:
        database.release()
    return pause
