"""The group commit with everything that can go wrong with it: conflicts, outages, replies that never came."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from django.db import DatabaseError, IntegrityError, InterfaceError

from django_durable.store import flush, outages
from django_durable.store.flush import Result, RunWrite, Verdict
from django_durable.worker.patience import Patience

T = TypeVar("T")

logger = logging.getLogger("django_durable.worker")

PROGRESS_PAUSE = 0.1  # seconds between two looks at a commit whose outcome is unknown


class RunRefused(Exception):
    """The database refuses what one run wants written: a property of that run, so it is parked."""

    def __init__(self, write: RunWrite, error: BaseException) -> None:
        super().__init__(str(error))
        self.write = write
        self.error = error


class Stopped(Exception):
    """The worker was told to stop while the database did not answer."""


class Flusher:
    """Writes batches for one worker. ``write`` returns when the fate of every run in the batch is known."""

    def __init__(self, worker: int, stopped: Callable[[], bool]) -> None:
        self.met_outage = False  # since the latest audit: claims may have been lost with it
        self._worker = worker
        self._stopped = stopped

    def write(self, writes: Sequence[RunWrite]) -> tuple[Result, list[RunRefused]]:
        """Write ``writes`` in one transaction if possible, else run by run.

        Raises ``WorkerFenced``, or ``Stopped`` when told to stop during an outage.
        """
        try:
            return self._attempt(writes, cautious=False), []
        except (IntegrityError, DatabaseError) as error:
            logger.debug("A flush of %d runs is tried again with care: %s", len(writes), error)
        try:
            return self._attempt(writes, cautious=True), []
        except (IntegrityError, DatabaseError) as error:
            logger.debug("A flush of %d runs is tried run by run: %s", len(writes), error)
        return self._one_by_one(writes)

    def persist(self, action: Callable[[], T]) -> T:
        """Do ``action``, a transaction that may be repeated, again and again until the database has taken it.

        Raises conflicts and whatever is no outage, or ``Stopped`` when told to stop during one.
        """
        patience = Patience(self._stopped)
        while True:
            try:
                return action()
            except (DatabaseError, InterfaceError) as error:
                if outages.is_conflict(error) or not outages.is_outage(error):
                    raise
                logger.warning("The database did not take a transaction; waiting for it: %s", error)
                self.met_outage = True
                outages.discard()
                if not outages.wait_until_usable(self._stopped):
                    raise Stopped from error
                patience.rest()

    def _one_by_one(self, writes: Sequence[RunWrite]) -> tuple[Result, list[RunRefused]]:
        """Find the runs that the batch failed for; the others must not suffer."""
        merged, refused = Result(verdicts={}), []
        for write in writes:
            try:
                result = self._attempt([write], cautious=True)
            except DatabaseError as error:
                if outages.is_conflict(error):
                    merged.verdicts[write.chain_id] = Verdict.BUSY
                elif isinstance(error, IntegrityError):
                    # Its place in the history is taken: always read again, never failed.
                    merged.verdicts[write.chain_id] = Verdict.REDO
                else:
                    refused.append(RunRefused(write, error))
                continue
            merged.verdicts |= result.verdicts
            merged.succeeded |= result.succeeded
            merged.lost |= result.lost
            merged.told |= result.told
            merged.asked_to_end |= result.asked_to_end
            merged.started |= result.started
            merged.spilled |= result.spilled
            merged.time = result.time
        return merged, refused

    def _attempt(self, writes: Sequence[RunWrite], *, cautious: bool) -> Result:
        """One flush; through an outage if need be. Raises conflicts and what is a property of some run."""
        patience = Patience(self._stopped)
        while True:
            note = Result(verdicts={})
            try:
                return flush.flush(self._worker, writes, cautious=cautious, note=note)
            except (DatabaseError, InterfaceError) as error:
                if outages.is_conflict(error) or not outages.is_outage(error):
                    raise
                logger.warning("The database did not take a flush of %d runs; waiting for it: %s", len(writes), error)
                # A server that crashed may have forgotten the claims of these runs: look at their rows this time.
                self.met_outage = cautious = True
                if self._was_committed(note, writes):
                    return note
                patience.rest()

    def _was_committed(self, note: Result, writes: Sequence[RunWrite]) -> bool:
        """What became of a transaction whose end we did not hear: wait until it has one, then look."""
        outages.discard()
        while not self._stopped():
            try:
                return bool(note.verdicts) and flush.was_committed(note.transaction, self._written(note, writes))
            except flush.StillInProgress:
                time.sleep(PROGRESS_PAUSE)
            except (DatabaseError, InterfaceError):
                outages.discard()
                outages.wait_until_usable(self._stopped)
        raise Stopped

    def _written(self, note: Result, writes: Sequence[RunWrite]) -> list[RunWrite]:
        return [write for write in writes if note.verdicts.get(write.chain_id) is Verdict.WRITTEN]
