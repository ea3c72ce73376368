"""The engine of a worker: one thread that collects what has happened, drains runs, and commits them in groups."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from uuid import UUID

from django_durable import conf, instrumentation
from django_durable.client import messaging
from django_durable.history import events
from django_durable.store import clock, database, delivery, leases, outside
from django_durable.worker import offspring
from django_durable.worker.alarms import Alarms
from django_durable.worker.auditing import Auditor
from django_durable.worker.beating import Beats
from django_durable.worker.child_starts import ChildStarts
from django_durable.worker.committing import BUSY_PAUSES, Committer
from django_durable.worker.drafting import Drafter
from django_durable.worker.draining import Drainer
from django_durable.worker.executors import Slots
from django_durable.worker.flushing import Flusher
from django_durable.worker.holdings import Holdings
from django_durable.worker.instances import InstanceCache
from django_durable.worker.jobs import Finished, Job
from django_durable.worker.leaving import Leaving
from django_durable.worker.loading import Loader
from django_durable.worker.outside_ends import OutsideEnds
from django_durable.worker.ownership import Input, OwnedRun
from django_durable.worker.pace import Pace
from django_durable.worker.parking import Parking
from django_durable.worker.pausing import Pausing
from django_durable.worker.releasing import Releaser
from django_durable.worker.results import Results
from django_durable.worker.rota import Rota
from django_durable.worker.serving import Serving
from django_durable.worker.taking import Taking
from django_durable.worker.telling import Teller
from django_durable.worker.watchdog import Watchdog

LAG = 0.05  # seconds of lateness that are worth telling
LONGEST_REST = 1.0
RESTS_PER_LEASE = 9  # at least: the heartbeat takes an engine that makes no step for a third of the lease to hang


class Engine:
    """``cycle`` by ``cycle``: collect, look, drain, flush, act, release.

    Only one thread may drive it; ``report`` and ``wake`` are for others.
    """

    def __init__(
        self,
        worker: int,
        *,
        slots: Slots,
        watchdog: Watchdog,
        cache: InstanceCache,
        serving: Serving,
        pace: Pace,
        linger: Callable[[], float],
        on_tick: Callable[[], None],
        on_ending: Callable[[Collection[UUID]], None],
        on_parent_closed: Callable[[UUID], None] = lambda chain: None,
        on_progress: Callable[[], None] = lambda: None,
        threaded: bool = False,
        stopped: Callable[[], bool],
        finished: deque[Finished],
    ) -> None:
        self.worker = worker
        self.holdings = Holdings()
        self.alarms = Alarms()
        self.time = clock.Estimate()
        self.progress = 0  # counts cycles: the heartbeat renews the lease only while it grows
        self.draining = False
        self._slots = slots
        self._watchdog = watchdog
        self._cache = cache
        self._finished = finished
        self._bell = threading.Event()
        self._linger = linger
        self._stopped = stopped
        self._on_tick = on_tick
        self._on_ending = on_ending
        self._on_progress = on_progress
        self._answered: deque[UUID] = deque()
        flusher = Flusher(worker, self.gives_up)
        self.results = Results(worker, self.holdings, slots)
        self._drafter = Drafter(worker, slots)
        self.parking = Parking(worker, self.holdings, slots, flusher)
        self.beats = Beats(
            worker, holdings=self.holdings, slots=slots, parking=self.parking, ring=self._bell.set, estimate=self.time
        )
        leaving = Leaving(
            holdings=self.holdings,
            slots=slots,
            parking=self.parking,
            watchdog=watchdog,
            time=self.time,
            on_next_run=self.wake,
            on_parent_closed=on_parent_closed,
        )
        lost = leaving.lost
        self._pausing = Pausing(worker, holdings=self.holdings, flusher=flusher, parking=self.parking, lost=lost)
        loader = Loader(self._drafter, slots, cache, watchdog, serving, pause=self._pausing.add)
        self.taking = Taking(
            worker,
            holdings=self.holdings,
            slots=slots,
            drafter=self._drafter,
            loader=loader,
            parking=self.parking,
            results=self.results,
            serving=serving,
            pace=pace,
        )
        self._teller = Teller(
            holdings=self.holdings, taking=self.taking, serving=serving, wake=self.wake, on_ending=on_ending
        )
        self._releaser = Releaser(
            worker,
            holdings=self.holdings,
            cache=cache,
            taking=self.taking,
            time=self.time,
            linger=linger,
            lost=lost,
        )
        self._outside = OutsideEnds(
            worker,
            holdings=self.holdings,
            flusher=flusher,
            ended=leaving.ended_outside,
            lost=lost,
            told=self._teller.tell,
        )
        self._child_starts = ChildStarts(worker, threaded=threaded, told=self.hear)
        self.auditor = Auditor(
            worker,
            holdings=self.holdings,
            slots=slots,
            flusher=flusher,
            parking=self.parking,
            lost=lost,
        )
        self._committer = Committer(
            worker,
            holdings=self.holdings,
            slots=slots,
            alarms=self.alarms,
            flusher=flusher,
            loader=loader,
            parking=self.parking,
            leaving=leaving,
            time=self.time,
            start=self._start,
            start_children=self._start_children,
            announce=self._teller.announce,
        )
        self._rota = Rota(
            holdings=self.holdings,
            drainer=Drainer(self._drafter, watchdog),
            loader=loader,
            committer=self._committer,
            leaving=leaving,
            outside_ends=self._outside,
            watchdog=watchdog,
            estimate=self.time,
        )

    @property
    def flushed(self) -> int:
        """Events that this worker has committed."""
        return self._committer.events

    def gives_up(self) -> bool:
        """Asked again and again while the database does not answer: waiting for it is progress too."""
        self._advance()
        return self._stopped()

    def _advance(self) -> None:
        self.progress += 1
        self._on_progress()

    # From other threads

    def report(self, finished: Finished) -> None:
        """An executor tells the end of an attempt."""
        self._finished.append(finished)
        if not self._bell.is_set():  # else the engine has yet to look: it collects only after it has put it back
            self._bell.set()

    def hear(self, chain: UUID) -> None:
        """There is a message for a run that is probably this worker's."""
        self._answered.append(chain)
        self._bell.set()

    def wake(self) -> None:
        """A transport tells that there may be something new."""
        self.taking.pace.hurry()
        self._bell.set()

    # One cycle

    def cycle(self) -> None:
        """Everything that can be done now, and at most a short rest before it."""
        self._rest()
        self.step()

    def step(self) -> bool:
        """Everything that can be done now. False: there was nothing."""
        self._advance()
        self._watchdog.leave()
        database.forget_queries()
        worked = self._collect()
        self._ring()
        if not self.draining and self.taking.is_due():
            worked |= self._take()
        worked |= self._outside.write()
        worked |= self._hear_answers()
        worked |= self._pausing.write()
        batch = self._rota.drain()
        if batch:
            self._committer.commit(batch)
        worked |= self.beats.write()
        self.auditor.watch()
        worked |= self._report()
        self._teller.tell_of_room()
        worked |= self._releaser.release(draining=self.draining)
        return worked or bool(batch)

    @property
    def is_held_up(self) -> bool:
        """Whether something is left only because somebody else has its rows."""
        waits = self._outside.waits or self._pausing.waits or self._starts_wait
        return bool(self.holdings.ready or self.holdings.reports or waits)

    @property
    def _starts_wait(self) -> bool:
        return not self._child_starts.threaded and self._child_starts.waits

    def is_idle(self) -> bool:
        """Whether nothing is owned, executed or still to be told."""
        return not (self.holdings.owned or self.holdings.jobs or self.holdings.reports or self._finished)

    def _rest(self) -> None:
        wait, began = self._until_next(), time.monotonic()
        if wait > 0 and not self._bell.wait(wait):
            self._notice_lag(time.monotonic() - began - wait)
        self._bell.clear()

    def _notice_lag(self, late: float) -> None:
        """Waking up late means that other threads keep the interpreter: usually activities that compute."""
        if late > LAG:
            instrumentation.send(instrumentation.engine_lagging, worker=self.worker, seconds=late)

    def _until_next(self) -> float:
        if (
            self._finished
            or self._answered
            or any(run.busy_until <= time.monotonic() for run in self.holdings.ready.values())
        ):
            return 0.0
        waits = [min(LONGEST_REST, conf.current().LEASE_SECONDS / RESTS_PER_LEASE)]
        if not self.draining:
            waits.append(self.taking.pace.until_next())
        if self.is_held_up:
            waits.append(BUSY_PAUSES[0])
        if any(run.idle_since is not None for run in self.holdings.owned.values()):
            waits.append(self._linger() / 2)
        due = self.alarms.until_next(self.time.now()) if self.holdings.owned or self.holdings.jobs else None
        beat = self.beats.until_next()
        return min([*waits, *(wait for wait in (due, beat) if wait is not None)])

    def _collect(self) -> bool:
        collected = bool(self._finished)
        while self._finished:
            self.results.take(self._finished.popleft())
        return collected

    def _ring(self) -> None:
        """Timers and deadlines that are due."""
        for job, timeout in self.alarms.due_deadlines():
            self.results.time_out(job, timeout)
        for run, sequence in self.alarms.due_timers(self.time.now()):
            if self.holdings.owned.get(run.claimed.chain_id) is run:
                run.inputs.append(Input(events.TimerFired(timer=sequence)))
                self.holdings.wake(run)
        for run in self.alarms.due_ends(self.time.now()):
            if self.holdings.owned.get(run.claimed.chain_id) is run:
                self._outside.add(run, outside.time_out)

    def _take(self) -> bool:
        """Claim what is due, and start tasks. False: nothing was."""
        seen = self.taking.take(self.time)
        for job in seen.jobs:
            self._start(job)
        for run in seen.runs:
            self.alarms.set_timer(run)
            self.alarms.set_end(run)
            if not run.draft.events:  # else its starts are not committed yet
                self._start_children(run)
        for run in seen.expired:
            self._outside.add(run, outside.time_out)
        for run in seen.cancelled:
            self._outside.add(run, outside.cancel)
        for run in seen.orphaned:
            self._outside.add(run, outside.terminate)
        for run in seen.paused:
            self._pausing.add(run)
        if seen.tick:
            self._on_tick()
        if seen.ending:
            self._on_ending(seen.ending)
        return bool(seen.runs or seen.jobs)

    def _hear_answers(self) -> bool:
        """Make starts that nobody else makes, and read what has been answered. False: there was nothing."""
        made = not self._child_starts.threaded and self._child_starts.work()
        chains = set()
        while self._answered:
            chains.add(self._answered.popleft())
        self.taking.hear(chains)
        return made or bool(chains)

    def _start_children(self, run: OwnedRun) -> None:
        """After the commit that holds the request."""
        if run.instance.unstarted:
            for start in offspring.starts_to_make(run):
                self._child_starts.ask(start)

    # Act

    def _start(self, job: Job) -> None:
        """Execute an attempt, after the commit that holds its event or its claim."""
        job.started = job.beat_at = time.monotonic()
        job.pulse = self.beats
        if job.expires_at is not None:
            job.expires = job.started + (job.expires_at - self.time.now()).total_seconds()
        self.alarms.set_deadline(job)
        if self.draining:
            job.stopping = True
        self.holdings.jobs.add(job)
        instrumentation.send(
            instrumentation.activity_started,
            workflow_id=job.workflow_id,
            run_id=job.run_id,
            name=job.definition.name,
            attempt=job.attempt,
            queue=job.queue,
        )
        self._slots.start(job)

    def _report(self) -> bool:
        """Tell other owners the outcomes of their tasks, and give tasks back for another attempt. False: none was."""
        if not self.holdings.reports:
            return False
        reports = list(self.holdings.reports.values())
        with leases.fenced(self.worker):
            busy, woken = delivery.deliver(reports)
        self.holdings.reports = {held: report for held, report in self.holdings.reports.items() if held in busy}
        for chain in woken:
            messaging.hint(chain)
        return len(busy) < len(reports)

    # Stopping

    def drain(self) -> None:
        """Stop taking, and hand over what is owned: running activities go on here as task rows."""
        self.draining = self._drafter.stopping = True
        for job in self.holdings.jobs:
            self._slots.announce_stop(job)
        self.parking.hand_over(list(self.holdings.owned.values()))
        for run in self.holdings.owned.values():
            if not (run.inputs or run.wants_write or run.running or run.was_blocked):
                run.idle_since = run.idle_since or 0.0
        self._bell.set()  # what can be released is, without a rest first

    def abandon(self) -> None:
        """Drop everything in memory: this worker is dead by declaration, or the process ends."""
        for run in self.holdings.owned.values():
            run.instance.evict()
            for job in run.draft.local:
                self._slots.give_back(kind=job.definition.executor)
        for job in self.holdings.jobs:
            job.given_up = True
        self._cache.clear()
        self.alarms.clear()
        self._child_starts.stop()
