"""Heartbeats of activities: taken from their threads, written by the engine's, those of a moment as one."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from django_durable.payloads import payload
from django_durable.store import clock, leases, tasks
from django_durable.worker.executors import Slots
from django_durable.worker.holdings import Holdings
from django_durable.worker.jobs import Job
from django_durable.worker.parking import Parking

LONGEST_PAUSE = 1.0  # seconds between two writes of one attempt's heartbeats
PAUSE_SHARE = 1 / 4  # of the heartbeat timeout, if that is shorter
BUSY_PAUSE = 0.1  # seconds before a row that somebody holds is tried again
ROW_STEP, ROW_PATIENCE = 0.005, 5.0  # seconds that a token waits for its row
PATIENCE = 0.5  # seconds that a heartbeat waits for its own write


class Beats:
    """``beat`` is for the threads of activities, everything else for the engine's."""

    def __init__(
        self,
        worker: int,
        *,
        holdings: Holdings,
        slots: Slots,
        parking: Parking,
        ring: Callable[[], None],
        estimate: clock.Estimate,
    ) -> None:
        self._worker = worker
        self._holdings = holdings
        self._slots = slots
        self._parking = parking
        self._ring = ring
        self._estimate = estimate
        self._told: deque[Job] = deque()
        self._waiting: dict[Job, None] = {}

    def beat(self, job: Job) -> None:
        """Have a heartbeat written, and wait for that unless another one was written a moment ago.

        An atomic activity does not wait: on SQLite its own transaction keeps the engine from writing.
        """
        written = self.note(job)
        if written is not None and not job.definition.is_async and not job.definition.options.atomic:
            written.wait(PATIENCE)

    def note(self, job: Job) -> threading.Event | None:
        """Have a heartbeat written when it is time; what tells that it is, if that is now."""
        if job.beat_waits or (job.held is None and job.details is None and not job.wants_row):
            return None
        urgent = self._now() >= job.next_beat
        job.written = threading.Event() if urgent else None
        job.beat_waits = True
        self._told.append(job)
        if urgent:
            self._ring()
        return job.written

    def open(self, job: Job) -> None:
        """Wait until the attempt has a row of its own."""
        patience = time.monotonic() + ROW_PATIENCE
        while job.held is None and not job.given_up and time.monotonic() < patience:
            self.ask_for_row(job)
            self._ring()
            time.sleep(ROW_STEP)

    def ask_for_row(self, job: Job) -> None:
        job.wants_row, job.next_beat = True, 0.0
        self.note(job)

    def until_next(self) -> float | None:
        """Seconds until a heartbeat is to be written."""
        if not self._waiting:
            return None
        return max(min(job.next_beat for job in self._waiting) - self._now(), 0.0)

    def write(self) -> bool:
        """Write what is due. False: nothing was."""
        while self._told:
            self._waiting[self._told.popleft()] = None
        now = self._now()
        for job in [job for job in self._waiting if job not in self._holdings.jobs or job.given_up]:
            self._end(job)
        due = [job for job in self._waiting if job.next_beat <= now]
        if not due:
            return False
        self._spill([job for job in due if job.held is None])
        self._write([job for job in due if job.held is not None])
        return True

    def _spill(self, local: Sequence[Job]) -> None:
        """What an attempt tells must outlive this process: from now on it has a row."""
        for job in local:
            run = self._holdings.run_of(job)
            if run is not None:
                self._parking.spill_in_place(run, [job])
            if job.held is None:
                job.next_beat = self._now() + BUSY_PAUSE

    def _write(self, held: Sequence[Job]) -> None:
        by_claim = {job.held: job for job in held if job.held is not None}
        if not by_claim:
            return
        told = {claim: job.details for claim, job in by_claim.items()}
        for job in held:
            job.beat_waits = False  # what comes from now on is another heartbeat
        with leases.fenced(self._worker):
            had = tasks.locked(list(by_claim))
            missing = set(by_claim) - had
            busy = tasks.ours(missing) if missing else set()
            stopping = tasks.asked_to_stop(had)
            for claim in had:
                job, details = by_claim[claim], told[claim]
                tasks.beat(
                    claim,
                    heartbeat=job.definition.options.heartbeat,
                    attempt_left=job.attempt_left,
                    details=payload.dump(details) if details is not None else None,
                )
        for claim, job in by_claim.items():
            if claim in busy:
                job.next_beat = self._now() + BUSY_PAUSE
                job.beat_waits = True
            else:
                self._end(job)
                if claim in stopping or (claim in missing and not job.is_abandoned):
                    self._slots.give_up(job)  # the workflow has given it up, or somebody else has it

    def _now(self) -> float:
        """The database's time, in seconds: a test may move it."""
        return self._estimate.now().timestamp()

    def _end(self, job: Job) -> None:
        heartbeat = job.definition.options.heartbeat
        pause = LONGEST_PAUSE if heartbeat is None else min(LONGEST_PAUSE, heartbeat.total_seconds() * PAUSE_SHARE)
        job.next_beat = self._now() + pause
        self._waiting.pop(job, None)
        if job.written is not None:
            job.written.set()
