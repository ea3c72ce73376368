"""Whose turn it is: ready runs are drained one input at a time, round after round, until a flush is full."""

from __future__ import annotations

import time
from collections import deque
from datetime import datetime

from django_durable.history import events
from django_durable.store import clock, outside
from django_durable.worker.committing import Committer
from django_durable.worker.draining import Drainer
from django_durable.worker.holdings import Holdings
from django_durable.worker.leaving import Leaving
from django_durable.worker.loading import Loader
from django_durable.worker.outside_ends import OutsideEnds
from django_durable.worker.ownership import OwnedRun
from django_durable.worker.watchdog import Watchdog

MAX_EVENTS = 1_000  # of one flush: larger ones make every run of this worker wait
MAX_BYTES = 1_000_000
MAX_RUNS = 256


class Rota:
    """Drains what is ready; what a run wants written afterwards is the next flush."""

    def __init__(
        self,
        *,
        holdings: Holdings,
        drainer: Drainer,
        loader: Loader,
        committer: Committer,
        leaving: Leaving,
        outside_ends: OutsideEnds,
        watchdog: Watchdog,
        estimate: clock.Estimate,
    ) -> None:
        self._holdings = holdings
        self._drainer = drainer
        self._loader = loader
        self._committer = committer
        self._leaving = leaving
        self._outside_ends = outside_ends
        self._watchdog = watchdog
        self._estimate = estimate

    def drain(self) -> list[OwnedRun]:
        """Until everything is applied or the flush is full; returns the runs that want something written."""
        now, monotonic = self._estimate.now(), time.monotonic()
        ready = (run for run in self._holdings.ready.values() if not run.pauses or run.wants_write)
        turn = deque(run for run in ready if run.busy_until <= monotonic)
        batch: dict[OwnedRun, None] = {}
        count = size = 0
        while turn and count < MAX_EVENTS and size < MAX_BYTES and (len(batch) < MAX_RUNS or turn[0] in batch):
            run = turn.popleft()
            before = len(run.draft.events), run.draft.size
            if run.takes_inputs and not self._apply(run, now):
                batch.pop(run, None)
                continue
            batch[run] = None
            count += len(run.draft.events) - before[0]
            size += run.draft.size - before[1]
            if run.takes_inputs and not run.must_be_replayed:
                turn.append(run)
        return self._changed(batch)

    def _changed(self, batch: dict[OwnedRun, None]) -> list[OwnedRun]:
        changed = []
        for run in batch:
            if not run.wants_write:
                self._committer.settle(run)
                continue
            if run.tries and run.draft.ending is not None:
                self._drainer.leave_unhandled(run)
            changed.append(run)
        return changed

    def _apply(self, run: OwnedRun, now: datetime) -> bool:
        """Apply the run's next input. False: it has left, or is about to."""
        if isinstance(run.inputs[0].event, events.RunTerminated):
            self._outside_ends.add(run, outside.terminate)
            return False
        try:
            if run.stale and not run.draft.applied:
                self._replay_again(run)
            self._drainer.drain(run, now)
        except BaseException as error:
            self._watchdog.leave()
            self._leaving.troubled(run, error)
            return False
        return True

    def _replay_again(self, run: OwnedRun) -> None:
        """Without an instance cache every input meets a run that was replayed from the start."""
        error = self._loader.reload(run)
        run.stale = False
        if error is not None:
            raise error
