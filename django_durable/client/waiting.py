"""Waiting until workers have got something done, or, in a test's environment, getting it done here and now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from django.db import OperationalError

from django_durable.exceptions import WouldWaitForever
from django_durable.store import database, outages

FIRST_PAUSE = 0.002  # seconds between the first two looks at a run that somebody waits for
PAUSE_SHARE = 0.1  # of the time waited so far: what a wait takes longer than the run does
LONGEST_PAUSE = 0.25
DRIVEN_SECONDS = 10.0  # at least, that a driver may work for somebody who gave a timeout: it does not wait


class Driver(Protocol):
    """Does in this process what workers would do."""

    def work_for(self, workflow_id: str, run_id: UUID, has_come: Callable[[], bool]) -> None:
        """Do what is due; unless ``has_come()``, or the run has got on, let time pass until more is due.

        Raises ``WaitsInVain`` if nothing ever will be.
        """


_driver: Driver | None = None


@contextmanager
def driven_by(driver: Driver) -> Iterator[None]:
    """Inside the block nothing waits in this process: ``driver`` works instead."""
    global _driver
    before, _driver = _driver, driver
    try:
        yield
    finally:
        _driver = before


def pauses(
    verb: str,
    workflow_id: str,
    run_id: UUID,
    *,
    has_come: Callable[[], bool],
    too_late: Callable[[float], str],
    timeout: float | timedelta | None,
) -> Iterator[float]:
    """Look until ``has_come()``; yields how many seconds to wait before the next look.

    Raises ``TimeoutError`` with the text of ``too_late(timeout)``, and ``WouldWaitForever`` inside a transaction,
    whose writes no worker can see. ``verb`` names the caller in that error.
    """
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    began, pause = time.monotonic(), FIRST_PAUSE
    while not _sees(has_come):
        refuse_in_transaction(verb, workflow_id)
        if _driver is not None:
            _driver.work_for(workflow_id, run_id, has_come)
            if seconds is not None and time.monotonic() > began + max(seconds, DRIVEN_SECONDS):
                raise TimeoutError(too_late(seconds))
            continue
        if seconds is not None and time.monotonic() + pause > began + seconds:
            raise TimeoutError(too_late(seconds))
        yield pause
        pause = min(max(FIRST_PAUSE, (time.monotonic() - began) * PAUSE_SHARE), LONGEST_PAUSE)


def _sees(has_come: Callable[[], bool]) -> bool:
    """A look at an SQLite database in memory fails while a worker of this process writes: the next one will not."""
    try:
        return has_come()
    except OperationalError as error:
        if outages.is_conflict(error) and not database.in_transaction():
            return False
        raise


def refuse_in_transaction(verb: str, workflow_id: str) -> None:
    """Raise ``WouldWaitForever`` if this thread has a transaction open on our database."""
    if database.in_transaction():
        raise WouldWaitForever(
            f"{verb} of workflow {workflow_id!r} was called inside an open transaction. Workers cannot see what it "
            "has written, so waiting would never end: ask after the transaction."
        )
