"""A worker without threads: the real engine, driven by whoever calls ``work``."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from datetime import datetime

from django.db import DatabaseError

from django_durable.exceptions import DurableError
from django_durable.release import VERSION
from django_durable.store import horizon, leases
from django_durable.testing.executor import InlineExecutor
from django_durable.testing.mocks import Mocks
from django_durable.worker.engine import Engine
from django_durable.worker.executors import Slots
from django_durable.worker.flushing import Stopped
from django_durable.worker.instances import InstanceCache
from django_durable.worker.jobs import Finished, Job
from django_durable.worker.maintenance import Maintenance, recover
from django_durable.worker.pace import NoPause
from django_durable.worker.serving import Serving
from django_durable.worker.watchdog import Watchdog

NAME = "test environment"
MOST_ROUNDS = 100_000  # without an end to what is due now
BUSY_PAUSE = 0.02  # seconds; before rows are tried again that another connection holds
BUSY_PATIENCE = 10.0


class Killed(BaseException):
    """A test lets the process die here, as far as the database can see."""


class Hands:
    """One engine, its executor and its maintenance. After ``die`` or ``retire`` it is of no use any more."""

    def __init__(self, mocks: Mocks) -> None:
        self._serving = Serving.everything(())
        self._finished: deque[Finished] = deque()
        self._executor = InlineExecutor(
            self._finished.append, self._overdue, lambda job: self._engine.beats.note(job), self._open, mocks
        )
        self._slots = Slots(threads=self._executor, loop=self._executor, processes=self._executor)
        self._woken = False
        self.worker = leases.register(
            NAME,
            queues=(),
            definitions=sorted(self._serving.definitions),
            concurrency=self._executor.capacity,
            release=VERSION,
        )
        self._maintenance = Maintenance(
            lambda: self.worker,
            may_judge=lambda: False,
            definitions=self._serving.definitions,
            wake=self._wake,
        )
        self._engine = Engine(
            self.worker,
            slots=self._slots,
            watchdog=Watchdog(),
            cache=InstanceCache(),
            serving=self._serving,
            pace=NoPause(),
            linger=lambda: 0.0,
            on_tick=lambda: None,  # every sweep looks at schedules
            on_ending=self._maintenance.end,
            stopped=lambda: True,
            finished=self._finished,
        )

    @property
    def knows_everything(self) -> bool:
        """Whether nothing was declared since this was made."""
        return Serving.everything(()) == Serving(
            queues=(), definitions=self._serving.definitions, activities=self._serving.activities
        )

    def work(self) -> None:
        """Do everything that is due now, and what follows from it."""
        patience = time.monotonic() + BUSY_PATIENCE
        for _ in range(MOST_ROUNDS):
            if self._round():
                patience = time.monotonic() + BUSY_PATIENCE
            elif not self._engine.is_held_up:
                if not self._sweep():
                    return
            elif time.monotonic() > patience:
                raise DurableError("Another connection keeps rows locked that this test's runs need.")
            else:
                time.sleep(BUSY_PAUSE)
        raise DurableError(
            f"There was still something to do after {MOST_ROUNDS:,} rounds without any time passing. "
            "Does a workflow call activities in an endless loop? Let it sleep in between."
        )

    def next_timer(self) -> datetime | None:
        """When the next timer of a run in hand is due, a queue lets in more, or a running attempt is overdue."""
        owned = self._engine.holdings.owned.values()
        timers = [run.timer[0] for run in owned if run.timer is not None]
        deadline = self._executor.next_deadline()
        others = [one for one in (deadline, self._engine.taking.lets_in_at) if one is not None]
        return min([*timers, *others], default=None)

    def die(self) -> None:
        """End as a process does that is killed: whatever was not committed is lost, and others take over."""
        self._engine.abandon()
        self._executor.close()
        leases.retire(self.worker)
        recover()

    def retire(self) -> None:
        """Leave nothing behind, as far as the database still listens."""
        self._engine.abandon()
        self._executor.close()
        with suppress(DatabaseError):
            leases.retire(self.worker)
            recover()
            leases.forget(self.worker)

    def _round(self) -> bool:
        """One step of the engine, and the activities that it began. False: there was nothing."""
        self._serving.queues = tuple(sorted(horizon.queues_in_use())) or ("default",)
        self._executor.ring()
        try:
            worked = self._engine.step()
        except Stopped as stopped:
            raise stopped.__cause__ or stopped from None
        while self._executor.run_next():
            worked = True
        return worked or self._engine.taking.left_something or bool(self._finished)

    def _sweep(self) -> bool:
        self._woken = False
        self._maintenance.sweep(thoroughly=True)
        return self._woken

    def _wake(self) -> None:
        self._woken = True

    def _open(self, job: Job) -> None:
        self._engine.beats.ask_for_row(job)
        self._engine.beats.write()

    def _overdue(self, job: Job, timeout: str) -> None:
        self._engine.results.time_out(job, timeout)
