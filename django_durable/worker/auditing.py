"""Comparing what the database says is this worker's with what the worker knows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from uuid import UUID

from django_durable.store import dispatch, leases, tasks
from django_durable.worker.executors import Slots
from django_durable.worker.flushing import Flusher
from django_durable.worker.holdings import Holdings
from django_durable.worker.jobs import Job
from django_durable.worker.ownership import OwnedRun
from django_durable.worker.parking import Parking

WATCH_SECONDS = 1.0  # between two looks whether what is executed here is still wanted
LOCAL_SECONDS = 60.0  # after which a running local activity gets a task row, so that its run can be released


class Auditor:
    """Replies to claims and releases can be lost, and so can they themselves when the server crashes."""

    def __init__(
        self,
        worker: int,
        *,
        holdings: Holdings,
        slots: Slots,
        flusher: Flusher,
        parking: Parking,
        lost: Callable[[OwnedRun], None],
    ) -> None:
        """``lost`` is told of runs that turn out not to be this worker's any more."""
        self._worker = worker
        self._holdings = holdings
        self._slots = slots
        self._flusher = flusher
        self._parking = parking
        self._lost = lost
        self._watch_at = 0.0

    @property
    def is_wanted(self) -> bool:
        """Whether the database was away while something was written."""
        return self._flusher.met_outage

    def audit(self) -> None:
        """Give back what nobody here knows, drop what is not ours, hand over local activities that last.

        Attempts whose task is gone, because their workflow has given them up or somebody else has it, are stopped.
        """
        self._flusher.met_outage = False
        with leases.fenced(self._worker):
            owned, held = dispatch.owned(self._worker), tasks.held_by(self._worker)
            strays = [chain for chain, epoch in owned.items() if not self._knows(chain, epoch)]
            dispatch.give_up(self._worker, strays)
            for task in held - self._held():
                tasks.give_back(task)
            stopping = tasks.asked_to_stop(held)
        self._stop([job for job in self._holdings.jobs if job.held is not None], held, stopping)
        self._hand_over_old(time.monotonic() - LOCAL_SECONDS)
        for run in list(self._holdings.owned.values()):
            if owned.get(run.claimed.chain_id) != run.claimed.epoch:
                self._lost(run)

    def watch(self) -> None:
        """Once a second: what lasts and sends no heartbeats learns here that nobody waits for it any more."""
        now = time.monotonic()
        if now < self._watch_at:
            return
        self._watch_at = now + WATCH_SECONDS
        lasting = [job for job in self._holdings.jobs if job.started < now - WATCH_SECONDS and not job.given_up]
        if spilled := [job for job in lasting if job.held is not None]:
            held = tasks.held_by(self._worker)
            self._stop(spilled, held, tasks.asked_to_stop(held))
        chains = {job.chain_id for job in lasting if job.held is None and self._holdings.run_of(job) is not None}
        for chain in chains - dispatch.still_owned(self._worker, chains) if chains else ():
            self._lost(self._holdings.owned[chain])  # terminated, for example

    def _stop(self, spilled: Iterable[Job], held: set[tasks.Held], stopping: set[tasks.Held]) -> None:
        """Those whose task is not ``held`` any more, or is asked to stop."""
        for job in spilled:
            if job.held in stopping or (job.held not in held and not job.is_abandoned):
                self._slots.give_up(job)

    def _hand_over_old(self, before: float) -> None:
        """A local activity that lasts must not pin its run in this worker's memory."""
        self._parking.hand_over(
            [run for run in self._holdings.owned.values() if any(job.started < before for job in run.running.values())]
        )

    def _knows(self, chain: UUID, epoch: int) -> bool:
        run = self._holdings.owned.get(chain)
        return run is not None and run.claimed.epoch == epoch

    def _held(self) -> set[tasks.Held]:
        """Tasks that are executed here or whose outcome is still to be written."""
        held = {job.held for job in self._holdings.jobs if job.held is not None} | set(self._holdings.reports)
        for run in self._holdings.owned.values():
            held |= {one.held for one in (*run.inputs, *run.draft.applied) if one.held is not None}
        return held
