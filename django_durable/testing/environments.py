"""Workflows inside a test: real engine, real tables, no threads, and a clock that only the test moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async

from django_durable import client
from django_durable.client import waiting
from django_durable.client.handle import WorkflowHandle
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.exceptions import DurableError, WaitsInVain, WouldWaitForever
from django_durable.store import clock, database, history, horizon, leases, runs, status_cache
from django_durable.testing import reasons
from django_durable.testing.hands import Hands, Killed
from django_durable.testing.mocks import AnyActivity, Mock, Mocks
from django_durable.worker import embedded

P = ParamSpec("P")
R = TypeVar("R")

LEAD = timedelta(seconds=1)  # by which the clock is ahead of the real one, so that what tests read there is not later
MOST_DEATHS = 10_000  # of its worker, in one go
MOST_SKIPS = 1_000  # of time, without anything happening to the run that somebody waits for

_current: Environment | None = None


@contextmanager
def environment() -> Iterator[Environment]:
    """Do the work of all workers inside the block, in this thread and on its connection.

    Works in a plain ``TestCase`` or a pytest test, inside its transaction, and in a script on a database of its own.
    Raises ``DurableError`` if a worker lives in this database, or inside another environment.
    """
    global _current
    if _current is not None:
        raise DurableError("This is inside the block of another environment() already; use that one.")
    if leases.anybody_lives():
        raise DurableError(
            "A worker is running on this database. environment() does the work of all workers, and moves the clock "
            "for everything in the database: give the test or script a database of its own."
        )
    with ExitStack() as stack:
        stack.enter_context(database.adopting())
        stack.enter_context(status_cache.leaving_alone())
        stack.enter_context(embedded.standing_back())
        one = Environment()
        stack.callback(one._close)
        stack.enter_context(waiting.driven_by(one))
        _current = one
        try:
            yield one
        finally:
            _current = None


def current() -> Environment | None:
    """The environment that this is inside of."""
    return _current


class Environment:
    """What ``environment()`` gives. Nothing happens by itself: ``advance``, ``run_until_idle`` and waiting for a
    result do what is due. Its clock stands still in between."""

    def __init__(self) -> None:
        self._mocks = Mocks()
        self._hands: Hands | None = None
        self._began = clock.read(), time.monotonic()
        self._skipped = timedelta(0)
        self._set(self._began[0] + LEAD)

    # What tests use

    def start(self, definition: WorkflowDefinition[P, R], /, *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]:
        """Start a run, as ``durable.start_workflow`` does. Its code begins when something drives the environment."""
        self._keep_up()
        return client.start_workflow(definition, args, kwargs)

    def now(self) -> datetime:
        """The time, as workflows, timers and timeouts see it; UTC."""
        return self._now

    def run_until_idle(self) -> None:
        """Do everything that is due now, and what follows from it. No time passes."""
        self._check_transaction("run_until_idle()")
        self._work()

    def advance(self, delta: timedelta) -> None:
        """Let ``delta`` pass, and do everything that is due on the way, each at its own time."""
        if not isinstance(delta, timedelta):
            raise TypeError(f"advance() needs a timedelta, not {delta!r}.")
        if delta < timedelta(0):
            raise ValueError(f"advance() cannot go back in time: {delta}.")
        self._check_transaction("advance()")
        self._keep_up()
        until = self._now + delta
        self._work()
        while (following := self._next_moment()) is not None and following <= until:
            self._skip_to(following)
            self._work()
        self._skip_to(until)
        self._work()

    def mock(self, activity: AnyActivity | str, function: Callable[..., Any]) -> Mock:
        """Run ``function`` in the place of ``activity``, with its arguments, until the environment ends.

        What it returns is the activity's result, what it raises its failure, with all retries. The mock is a context
        manager, has ``stop()``, and lists its ``calls``. Raises ``TypeError``, and ``UnknownDefinition`` for a name
        that no activity has.
        """
        return self._mocks.add(activity, function)

    astart = sync_to_async(start)
    arun_until_idle = sync_to_async(run_until_idle)
    aadvance = sync_to_async(advance)

    # What waiting verbs use

    def work_for(self, workflow_id: str, run_id: UUID, has_come: Callable[[], bool]) -> None:
        """Do what is due; if that does not bring the run on, let time pass until something does."""
        before = _place(run_id)
        self._work()
        for _ in range(MOST_SKIPS):
            if _place(run_id) != before or has_come():
                return
            following = self._next_moment()
            if following is None or self._waits_in_vain(run_id):
                raise WaitsInVain(reasons.why_it_waits(run_id))
            self._skip_to(following)
            self._work()
        raise WaitsInVain(f"{reasons.why_it_waits(run_id)} Other runs have gone on {MOST_SKIPS:,} times meanwhile.")

    # What crash_everywhere uses

    def let_go(self) -> None:
        """Keep nothing in memory: whatever comes next is read from the database."""
        if self._hands is not None:
            self._hands.retire()
            self._hands = None

    def turn_back(self, moment: datetime) -> None:
        """Set the clock to a moment that it has shown before."""
        self._skipped -= self._now - moment
        self._set(moment)

    # Inside

    def _work(self) -> None:
        for _ in range(MOST_DEATHS):
            if self._hands is not None and not self._hands.knows_everything:
                self.let_go()
            hands = self._hands = self._hands or Hands(self._mocks)
            try:
                hands.work()
                return
            except leases.WorkerFenced:  # its row was rolled back, with a test's transaction for example
                hands.retire()
            except Killed:
                hands.die()
            self._hands = None if self._hands is hands else self._hands
        raise DurableError("The environment's worker dies again and again.")

    def _next_moment(self, *, everything: bool = True) -> datetime | None:
        stored = horizon.next_moment(everything=everything)
        held = self._hands.next_timer() if self._hands is not None else None
        return min((one for one in (stored, held) if one is not None), default=None)

    def _waits_in_vain(self, run_id: UUID) -> bool:
        return reasons.is_blocked(run_id) or self._next_moment(everything=False) is None

    def _skip_to(self, moment: datetime) -> None:
        if moment > self._now:
            self._skipped += moment - self._now
            self._set(moment)

    def _keep_up(self) -> None:
        """Never fall behind the real clock, so that times which tested code takes from there are not ahead."""
        read, at = self._began
        real = read + timedelta(seconds=time.monotonic() - at) + self._skipped
        if real > self._now:
            self._set(real + LEAD)

    def _set(self, moment: datetime) -> None:
        self._now = moment
        clock.stand_still_at(moment)

    def _check_transaction(self, verb: str) -> None:
        if database.in_transaction():
            raise WouldWaitForever(
                f"{verb} was called inside an open transaction. Workers cannot see what it has written: call it after "
                "the block of transaction.atomic()."
            )

    def _close(self) -> None:
        try:
            self._mocks.clear()
            self.let_go()
        finally:
            clock.stand_still_at(None)


def _place(run_id: UUID) -> tuple[UUID, int] | None:
    """How far a chain has come: its latest run, and the last event of that."""
    run = runs.latest_of_chain(run_id)
    return None if run is None else (run.pk, history.last_sequence(run.pk))
