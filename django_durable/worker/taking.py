"""Taking on work: claims of runs and tasks, as far as there is room for them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django_durable.definitions.activity import EXECUTORS
from django_durable.payloads import payload
from django_durable.store import clock, dispatch, levels, look, outcomes, queues, tasks
from django_durable.store.claims import PARK_AFTER, SUSPECT_AFTER, Claimed
from django_durable.worker import attempts, task_rows
from django_durable.worker.drafting import Drafter
from django_durable.worker.executors import Slots
from django_durable.worker.holdings import Holdings
from django_durable.worker.jobs import Finished, Job
from django_durable.worker.loading import Loader
from django_durable.worker.ownership import OwnedRun
from django_durable.worker.pace import Pace
from django_durable.worker.parking import Parking
from django_durable.worker.results import Results
from django_durable.worker.serving import Serving

MOST_RUNS = 256  # in one claim
SPARE_RUNS = 16  # claimed although no slot is free, when the slots are taken by attempts that last
ROOM_SHARE = 4  # a look for what was left waits until a quarter of the slots is free: each costs a transaction
LASTING = 0.5  # seconds after which an attempt is taken to last
SEARCH_SECONDS = 1.0  # between two searches for new priorities while the known ones have work
QUARANTINE_PATIENCE = 10.0  # seconds that a suspect run waits for a worker to have nothing else in hand
MOST_OWNED = 10_000
MOMENT = timedelta(seconds=2)  # that a batch of work waits for a place: less than another one would take


@dataclass(slots=True, kw_only=True)
class Taken:
    """What one look has brought: runs that are loaded and ready, jobs to start at once."""

    runs: list[OwnedRun] = field(default_factory=list)
    expired: list[OwnedRun] = field(default_factory=list)  # their deadline has passed: their code does not run
    cancelled: list[OwnedRun] = field(default_factory=list)  # before they began
    orphaned: list[OwnedRun] = field(default_factory=list)  # held, and their parent has ended
    paused: list[OwnedRun] = field(default_factory=list)  # to be given back as they are
    jobs: list[Job] = field(default_factory=list)
    tick: bool = False  # a schedule is due, or a time limit has passed
    ending: set[UUID] = field(default_factory=set)  # chains that nobody has, and that end without their code


class Taking:
    """Looks at the database at its own pace and takes what fits."""

    def __init__(
        self,
        worker: int,
        *,
        holdings: Holdings,
        slots: Slots,
        drafter: Drafter,
        loader: Loader,
        parking: Parking,
        results: Results,
        serving: Serving,
        pace: Pace,
    ) -> None:
        self.pace = pace
        self.taken = 0  # runs and tasks
        self.looked_empty_handed = False
        self.found_nothing = False  # at the last look, with nothing in hand: there is nothing left to do
        self.paused: frozenset[str] = frozenset()  # names of workflows whose runs are not taken
        self.governed = queues.NONE  # rules of the queues that have some
        self.held_back: Mapping[str, datetime | None] = {}  # queues whose limits had something wait at the last look
        self.found_no_place = False  # and there was nothing else, with nothing in hand, and not for a moment only
        self.lets_in_at: datetime | None = None  # when a queue may let in what it has kept out at the last look
        self._worker = worker
        self._holdings = holdings
        self._slots = slots
        self._drafter = drafter
        self._loader = loader
        self._parking = parking
        self._results = results
        self._serving = serving
        self._known = levels.NONE
        self._searched = 0.0
        self._left_runs = self._left_tasks = False  # the last look had to leave something that was due
        self._suspect = False  # a suspect run is owned: nothing else is taken meanwhile
        self._quiet_since: float | None = None  # a suspect run is due: this worker empties its hands first

    @property
    def wants_quiet(self) -> bool:
        return self._quiet_since is not None

    @property
    def left_something(self) -> bool:
        """Whether the last look knew of more than it took."""
        return self._left_runs or self._left_tasks

    def is_due(self) -> bool:
        """Whether to look now: it is time, or there is room again for what the last look had to leave."""
        if self.pace.is_due():
            return True
        if self._left_runs and self._room_for_runs() * ROOM_SHARE >= self._slots.thread_capacity():
            return True
        return self._left_tasks and self._slots.free() * ROOM_SHARE >= self._slots.thread_capacity()

    def take(self, time_estimate: clock.Estimate) -> Taken:
        """One look, and everything that follows from what it claims."""
        wanted = self._wanted()
        empty = not self._holdings.owned and not self._holdings.jobs
        self.pace.begin()
        seen = look.look(wanted)
        if seen.time is not None:
            time_estimate.update(seen.time)
        self._learn(seen)
        self.paused, self.governed = seen.paused, seen.governed
        self.looked_empty_handed = empty
        self.found_nothing = empty and not (seen.anything or seen.suspects or self._waits(seen))
        until_due = None
        if seen.next_due is not None:
            until_due = (seen.next_due - time_estimate.now()).total_seconds()
        if seen.suspects and self._quiet_since is None:
            self._quiet_since = time.monotonic()
        elif wanted.suspects:
            self._quiet_since = None
        self.lets_in_at, self.held_back = seen.again_at, seen.held_back
        self.found_no_place = empty and self._waits_for_places(seen, time_estimate.now())
        self._left_runs, self._left_tasks = seen.left_runs, seen.left_tasks
        self.pace.looked(
            found=seen.anything,
            searched=wanted.messages,
            until_due=until_due,
            read_paused=wanted.paused is None,
        )
        self.taken += len(seen.runs) + len(seen.tasks)
        taken = Taken(tick=seen.tick, ending=seen.ending)
        self._drafter.spilled_waits = bool(seen.tasks)
        self._drafter.spills = frozenset(name for name, rules in seen.governed.items() if rules.spills)
        try:
            self._prepare(seen.tasks, taken)  # before the runs, whose first drains take what slots are left
            self._load(seen.runs, taken)
            self.hear(seen.messages_for)
        except BaseException:  # what was claimed and is not known is given back by the audit
            self._give_back_slots(taken.jobs)
            raise
        return taken

    @staticmethod
    def _waits(seen: look.Seen) -> bool:
        """Whether more is due than was taken, if only because its queue lets no more in now."""
        return seen.left_runs or seen.left_tasks or bool(seen.held_back)

    @staticmethod
    def _waits_for_places(seen: look.Seen, now: datetime) -> bool:
        """Whether limits of queues are all that keeps something from being taken, and for longer than a moment."""
        if seen.anything or seen.suspects or seen.left_runs or seen.left_tasks or not seen.held_back:
            return False
        return all(at is None or at - now > MOMENT for at in seen.held_back.values())

    def hear(self, chains: Iterable[UUID]) -> None:
        """Queue the messages of runs that this worker has."""
        runs = [run for run in map(self._holdings.owned.get, chains) if run is not None]
        self._loader.read_inbox(runs)
        for run in runs:
            if run.inputs:
                self._holdings.wake(run)

    def _give_back_slots(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._slots.give_back(kind=job.definition.executor)

    def _wanted(self) -> look.Wanted:
        alone = not self._holdings.owned and not self._holdings.jobs
        self._suspect = self._suspect and bool(self._holdings.owned)
        waited = self._quiet_since is not None and time.monotonic() - self._quiet_since > QUARANTINE_PATIENCE
        nothing_else = self._suspect or self.wants_quiet
        return look.Wanted(
            worker=self._worker,
            queues=self._serving.queues,
            definitions=self._serving.definitions,
            runs=0 if nothing_else else self._room_for_runs(),
            suspects=1 if (alone or waited) and not self._suspect else 0,
            activities=tuple(
                (
                    self._serving.names(kind=kind),
                    0 if nothing_else else max(0, self._slots.free(kind=kind)),
                )
                for kind in EXECUTORS
            ),
            messages=self.pace.wants_messages(),
            paused=None if self.pace.wants_paused() else self.paused,
            governed=None if self.pace.wants_paused() else self.governed,
            known=self._known if self.pace.expects_work() else levels.NONE,
            search=time.monotonic() - self._searched > SEARCH_SECONDS,
        )

    def _learn(self, seen: look.Seen) -> None:
        """Remember the levels in use, so that the next look can claim from them at once."""
        if seen.levels is None:
            return
        self._searched = time.monotonic()
        self._known = seen.levels if seen.levels.chains or seen.levels.tasks else self._known

    def _room_for_runs(self) -> int:
        """As many runs as there are slots that no owned run is about to need."""
        if len(self._holdings.owned) >= MOST_OWNED:
            return 0
        free = self._slots.free() - self._holdings.active() + sum(1 for job in self._holdings.jobs if job.held is None)
        room = min(MOST_RUNS, free, self._slots.free())
        if room > 0:
            return room
        return SPARE_RUNS if self._are_lasting() else 0

    def _are_lasting(self) -> bool:
        """Whether most slots are taken by attempts that last: runs that need none of them should not wait for that."""
        before = time.monotonic() - LASTING
        return sum(job.started < before for job in self._holdings.jobs) * 2 > self._slots.thread_capacity()

    # Runs

    def _load(self, claims: list[Claimed], taken: Taken) -> None:
        if not claims:
            return
        for claimed in claims:
            forgotten = self._holdings.owned.get(claimed.chain_id)
            if forgotten is not None:  # the server crashed and lost our first claim of it
                self._holdings.drop(forgotten)
                self._give_back_slots(forgotten.draft.local)
                forgotten.instance.evict()
        claims = self._set_aside(claims, taken)
        for run in self._loader.untouched([one for one in claims if one.recoveries >= PARK_AFTER]):
            self._holdings.owned[run.claimed.chain_id] = run
            self._parking.park_crashing(run, run.claimed.recoveries)
        ready = self._loader.load([one for one in claims if one.recoveries < PARK_AFTER])
        for loaded in ready:  # all of them first: what follows can fail with the database
            self._holdings.owned[loaded.run.claimed.chain_id] = loaded.run
        for loaded in ready:
            run = loaded.run
            self._suspect = self._suspect or run.claimed.recoveries >= SUSPECT_AFTER
            if loaded.error is not None:
                self._parking.park(run, loaded.error, where=loaded.where)
            else:
                run.was_blocked = run.claimed.hold == dispatch.BLOCKED
                self._holdings.wake(run)
                taken.runs.append(run)

    def _set_aside(self, claims: list[Claimed], taken: Taken) -> list[Claimed]:
        """Runs that end without their code are not loaded; returns the others."""
        held = [one for one in claims if one.hold is not None and not one.expired]
        orphaned, cancelled = self._loader.asked_to_end(held) if held else ([], [])
        taken.expired = self._loader.untouched([one for one in claims if one.expired])
        taken.cancelled = self._loader.untouched(cancelled)
        taken.orphaned = self._loader.untouched(orphaned)
        ending = {*orphaned, *cancelled}
        taken.paused = self._loader.untouched(
            [one for one in held if one.hold == dispatch.PAUSED and one not in ending]
        )
        for run in (*taken.expired, *taken.cancelled, *taken.orphaned, *taken.paused):
            self._holdings.owned[run.claimed.chain_id] = run
        return [one for one in claims if one.chain_id not in self._holdings.owned]

    # Tasks

    def _prepare(self, claimed: list[tasks.ClaimedTask], taken: Taken) -> None:
        """Jobs for claimed tasks; an atomic activity that has its outcome already is not executed again."""
        jobs = [self._job(task) for task in claimed]
        atomic = {(job.chain_id, job.key) for job in jobs if job.definition.options.atomic}
        decided = outcomes.read(atomic) if atomic else {}
        stopping = {task.held for task in claimed if task.cancel_requested}
        for job in jobs:
            outcome = decided.get((job.chain_id, job.key))
            if outcome is not None and outcome.result is not None:
                self._results.conclude(Finished(job=job, result=payload.load(outcome.result)))
            elif job.held in stopping:
                self._results.conclude(attempts.cancelled(job))
            elif self._slots.take(kind=job.definition.executor):
                taken.jobs.append(job)
            elif job.held is not None:
                tasks.give_back(job.held)

    def _job(self, task: tasks.ClaimedTask) -> Job:
        return Job(
            definition=task_rows.load_options(task.name, task.options),
            input=payload.load(task.input),
            chain_id=task.held.chain_id,
            run_id=task.run_id,
            workflow_id=task.workflow_id,
            sequence=task.scheduled,
            key=task.held.key,
            worker=task.held.worker,
            queue=task.queue,
            attempt=task.held.attempt,
            interruptions=task.interruptions,
            held=task.held,
            looks=tasks.looks_of(task.options),
            failure=task.failure,
            expires_at=task.expires_at,
            headers=payload.load(task.headers) if task.headers else None,
            last_details=payload.load(task.heartbeat_details) if task.heartbeat_details else None,
        )
