"""Runs that leave this worker for good: ended, ended by somebody else, lost, or parked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from uuid import UUID

from django_durable import instrumentation
from django_durable.history.status import Status
from django_durable.store import clock
from django_durable.worker import reporting
from django_durable.worker.executors import Slots
from django_durable.worker.holdings import Holdings
from django_durable.worker.ownership import Draft, OwnedRun
from django_durable.worker.parking import Parking
from django_durable.worker.watchdog import Watchdog

logger = logging.getLogger("django_durable.worker")


class Leaving:
    """Takes everything of a run out of this worker's hands, and tells who wants to know."""

    def __init__(
        self,
        *,
        holdings: Holdings,
        slots: Slots,
        parking: Parking,
        watchdog: Watchdog,
        time: clock.Estimate,
        on_next_run: Callable[[], None],
        on_parent_closed: Callable[[UUID], None],
    ) -> None:
        """``on_next_run``: a run is due that follows one which has ended."""
        self._holdings = holdings
        self._slots = slots
        self._parking = parking
        self._watchdog = watchdog
        self._time = time
        self._on_next_run = on_next_run
        self._on_parent_closed = on_parent_closed

    def ended(self, run: OwnedRun, draft: Draft, status: Status | None) -> None:
        """Nothing of the run stays here. ``status`` None: it goes on elsewhere, or was ended by somebody else."""
        for job in draft.local:
            self._slots.give_back(kind=job.definition.executor)
        for job in run.running.values():
            if not job.is_abandoned:
                self._slots.give_up(job)
        self._holdings.drop(run)
        self._holdings.freed.add(run.claimed.queue)
        if status not in (None, Status.CONTINUED_AS_NEW) and (draft.ending is None or run.instance.had_children):
            self._on_parent_closed(run.claimed.chain_id)
        loaded = run.is_loaded
        started_at, headers = (run.instance.started_at, run.instance.beginning.headers) if loaded else (None, None)
        run.instance.evict()
        if draft.ending is not None and draft.ending.follows is not None:
            self._on_next_run()
        if status is not None:
            instrumentation.send(
                instrumentation.run_closed,
                workflow_id=run.workflow_id,
                run_id=run.claimed.run_id,
                name=run.definition.name,
                queue=run.claimed.queue,
                status=status,
                started_at=started_at,
                closed_at=self._time.now(),
                headers=headers,
                failure=draft.ending.failure if draft.ending is not None else None,
            )

    def ended_outside(self, run: OwnedRun, status: Status) -> None:
        """The run has ended in another way than its code would have it."""
        draft, run.draft = run.draft, Draft()
        draft.ending = None  # it is another one
        self.ended(run, draft, status)

    def lost(self, run: OwnedRun) -> None:
        """Not ours any more: terminated, or taken over while this worker slept."""
        draft, run.draft = run.draft, Draft()
        run.side = []
        self.ended(run, draft, None)
        logger.info(
            "Run %s of workflow %s is not this worker's any more.",
            run.claimed.run_id,
            run.workflow_id,
            extra=reporting.fields_of_run(run),
        )

    def troubled(self, run: OwnedRun, error: BaseException) -> None:
        """The run cannot go on here. Raises what is no matter of the run: that stops the worker."""
        if not isinstance(error, Exception) and not self._parking.is_the_runs_own(error):
            raise error
        self._parking.park(run, error, where=self._watchdog.where)
