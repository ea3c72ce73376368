"""What runs want written is committed in groups, and each run learns what has become of its part."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from django_durable import conf, instrumentation
from django_durable.store import clock, flush
from django_durable.worker.alarms import Alarms
from django_durable.worker.executors import Slots
from django_durable.worker.flushing import Flusher
from django_durable.worker.holdings import Holdings
from django_durable.worker.jobs import Job
from django_durable.worker.leaving import Leaving
from django_durable.worker.loading import Loader
from django_durable.worker.ownership import Draft, OwnedRun
from django_durable.worker.parking import Parking

BUSY_PAUSES = (0.05, 2.0)  # seconds, with jitter, before a run whose row somebody holds is tried again


class Committer:
    """Writes the drafts of runs, then lets each go on, end, wait, or begin its step anew."""

    def __init__(
        self,
        worker: int,
        *,
        holdings: Holdings,
        slots: Slots,
        alarms: Alarms,
        flusher: Flusher,
        loader: Loader,
        parking: Parking,
        leaving: Leaving,
        time: clock.Estimate,
        start: Callable[[Job], None],
        start_children: Callable[[OwnedRun], None],
        announce: Callable[[flush.Result], None],
    ) -> None:
        """The last three follow a commit, and must not come before it."""
        self.events = 0  # committed so far
        self._worker = worker
        self._holdings = holdings
        self._slots = slots
        self._alarms = alarms
        self._flusher = flusher
        self._loader = loader
        self._parking = parking
        self._leaving = leaving
        self._time = time
        self._start = start
        self._start_children = start_children
        self._announce = announce

    def commit(self, batch: list[OwnedRun]) -> None:
        """Commit what the batch wants written; a run whose end was overtaken once is written alone."""
        alone = [run for run in batch if run.tries]
        together = [run for run in batch if not run.tries]
        for group in ([together] if together else []) + [[run] for run in alone]:
            self._commit_group(group)

    def settle(self, run: OwnedRun) -> None:
        """The run has nothing more to write: what does it wait for?"""
        if run.was_blocked:
            run.was_blocked = False
            self._parking.let_go_on(run)
        self._alarms.set_timer(run)
        if not run.inputs:
            self._holdings.ready.pop(run.claimed.chain_id, None)
            if not run.running and not run.instance.unstarted:
                run.idle_since = time.monotonic()

    def _commit_group(self, group: list[OwnedRun]) -> None:
        started = time.monotonic()
        result, refused = self._flusher.write([run.write() for run in group])
        if result.time is not None:
            self._time.update(result.time)
        written = [run for run in group if result.verdicts.get(run.claimed.chain_id) is flush.Verdict.WRITTEN]
        count = sum(len(run.draft.events) for run in written)
        self.events += count
        instrumentation.send(
            instrumentation.flush_done,
            worker=self._worker,
            runs=len(written),
            events=count,
            seconds=time.monotonic() - started,
        )
        errors = {one.write.chain_id: one.error for one in refused}
        for run in group:
            if run.claimed.chain_id in errors:
                self._leaving.troubled(run, errors[run.claimed.chain_id])
            else:
                _VERDICTS[result.verdicts[run.claimed.chain_id]](self, run, result)
        self._announce(result)

    def _written(self, run: OwnedRun, result: flush.Result) -> None:
        draft, run.draft = run.draft, Draft()
        run.side = []
        run.begins = False
        run.progressed = run.progressed or draft.progresses
        if draft.ending is not None:
            self._leaving.ended(run, draft, draft.ending.status)
            return
        run.tries = 0
        run.noted = run.instance.lingering()
        run.stale = run.stale or conf.current().INSTANCE_CACHE_SIZE == 0
        if draft.cancelled or draft.stops:
            self._stop(run, {key for key, _ in draft.cancelled} | set(draft.stops))
        for job in draft.local:
            run.running[job.sequence] = job
            self._start(job)
        self._start_children(run)
        self.settle(run)

    def _stop(self, run: OwnedRun, keys: set[str]) -> None:
        """Tell attempts of this worker that their workflow has given them up."""
        for job in [job for job in self._holdings.jobs if job.key in keys and job.chain_id == run.claimed.chain_id]:
            self._slots.give_up(job)

    def _busy(self, run: OwnedRun, result: flush.Result) -> None:
        run.busy_until = time.monotonic() + random.uniform(*BUSY_PAUSES) * random.random() + BUSY_PAUSES[0]

    def _redo(self, run: OwnedRun, result: flush.Result) -> None:
        """Something reached the run first: nothing of the draft was written, so apply that, then the same inputs."""
        draft, run.draft = run.draft, Draft()
        run.stale = True  # its instance has seen what was not written, whatever becomes of the next steps
        for job in draft.local:
            self._slots.give_back(kind=job.definition.executor)
        run.tries += 1
        self._parking.prepare_again(run, draft, result)
        if not self._parking.still_ours(run):
            self._leaving.lost(run)
            return
        error = self._loader.reload(run)
        if error is not None:
            self._leaving.troubled(run, error)
            return
        run.stale = False
        self._loader.reconcile([run])
        self._loader.read_inbox([run])
        self._parking.put_in_order(run, result)
        run.timer = None
        self._alarms.set_timer(run)
        self._holdings.wake(run)

    def _gone(self, run: OwnedRun, result: flush.Result) -> None:
        self._leaving.lost(run)


_VERDICTS: dict[flush.Verdict, Callable[[Committer, OwnedRun, flush.Result], None]] = {
    flush.Verdict.WRITTEN: Committer._written,
    flush.Verdict.BUSY: Committer._busy,
    flush.Verdict.REDO: Committer._redo,
    flush.Verdict.GONE: Committer._gone,
}
