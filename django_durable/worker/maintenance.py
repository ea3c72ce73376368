"""What any worker does for all: declare the dead, give back what they had, end overdue attempts."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any
from uuid import UUID

from django.db import DatabaseError, InterfaceError

from django_durable import conf, instrumentation
from django_durable.client import messaging, scheduling
from django_durable.definitions.registry import registry
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.exceptions import DurableError, UnknownDefinition
from django_durable.history import blocking, vocabulary
from django_durable.history.failures import Failure
from django_durable.models import ActivityTask
from django_durable.store import (
    database,
    delivery,
    dispatch,
    leases,
    missing,
    outages,
    paused_workflows,
    recovery,
    runs,
    tasks,
    updates,
)
from django_durable.worker import overdue, task_rows, ticking, unowned
from django_durable.worker.retention import Retention

logger = logging.getLogger("django_durable.worker")

SLOW_SECONDS = 30.0  # between two rounds of what is never urgent
BETWEEN_PRUNES = 2.0  # while there is more of that to delete


class Maintenance:
    """A thread with a connection of its own that sweeps when it is asked to, and every 30 seconds anyway."""

    def __init__(
        self,
        worker: Callable[[], int | None],
        *,
        may_judge: Callable[[], bool],
        definitions: Mapping[str, WorkflowDefinition[..., Any]],
        wake: Callable[[], None],
    ) -> None:
        self._worker = worker
        self._may_judge = may_judge
        self._definitions = definitions
        self._wake = wake
        self._asked = threading.Event()
        self._asked_at = self._swept_at = 0.0  # ``time.monotonic()``: of the last wish, of the last sweep's beginning
        self._stopped = False
        self._declared = False
        self._parents: deque[UUID] = deque()  # that have ended: their children are to be told
        self._ending: deque[UUID] = deque()  # that nobody has, and that end without their code
        self._slow_at = 0.0
        self._retention = Retention()
        self._prune_at = time.monotonic() + SLOW_SECONDS * random.random()  # not all workers at once
        self._thread = threading.Thread(target=self._run, name="durable-maintenance", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._asked.set()

    def ask(self) -> None:
        """There is something to sweep."""
        self._asked_at = time.monotonic()
        self._asked.set()

    @property
    def is_at_rest(self) -> bool:
        """Whether every sweep that was asked for has ended."""
        return self._swept_at >= self._asked_at

    def close_children_of(self, chain: UUID) -> None:
        """A parent has ended: do with its children as their options say. Called from any thread."""
        self._parents.append(chain)
        self.ask()

    def end(self, chains: Collection[UUID]) -> None:
        """Nobody has these, and they have been asked to end: that needs no code. Called from any thread."""
        self._ending.extend(chains)
        self.ask()

    def _run(self) -> None:
        database.own_connection()
        while not self._stopped:
            began = time.monotonic()
            try:
                self._declare()
                self.sweep()
                self._prune()
            except (DatabaseError, InterfaceError) as error:
                logger.warning("A sweep was interrupted and will be repeated: %s", error)
                outages.discard()
            except Exception:
                logger.exception("A sweep failed and will be repeated.")
                outages.discard()
            self._swept_at = began
            self._asked.wait(min(SLOW_SECONDS, max(0.0, self._prune_at - time.monotonic())))
            self._asked.clear()
        outages.discard()

    def _declare(self) -> None:
        """Once, and again if the database failed: write the schedules that code declares."""
        if self._declared:
            return
        for schedule in registry.schedules():
            try:
                scheduling.declare(schedule)
            except DurableError as error:  # what is wrong with one must not stop the others, nor the sweep
                logger.error("Schedule %s cannot be declared: %s", schedule.name, error)
        self._declared = True

    def sweep(self, *, thoroughly: bool = False) -> None:
        """One round of everything that is due; ``thoroughly``: also of what is never urgent."""
        worker = self._worker()
        if worker is None:
            return
        if self._may_judge():
            for dead in leases.declare_dead(by=worker):
                logger.warning("Worker %s is declared dead: its lease has expired.", dead)
                instrumentation.send(instrumentation.worker_died, worker=dead, by=worker)
        ticked = ticking.tick({one.name for one in self._definitions.values()})
        recovered = recover()
        recovered += overdue.sweep()
        recovered += unowned.sweep({self._ending.popleft() for _ in range(len(self._ending))})
        if thoroughly or time.monotonic() >= self._slow_at:
            self._slow_at = time.monotonic() + SLOW_SECONDS
            self._slow_round()
        closed = self._close_children()
        if recovered or ticked or closed:
            self._wake()

    def _prune(self) -> None:
        """Last of all, and only until something else is to be swept."""
        worker = self._worker()
        if worker is None or time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + SLOW_SECONDS
        if self._retention.round(worker, enough=lambda: self._stopped or self._asked.is_set()):
            self._prune_at = time.monotonic() + BETWEEN_PRUNES

    def _close_children(self) -> int:
        parents = {self._parents.popleft() for _ in range(len(self._parents))}
        return messaging.close_children(parents) if parents else 0

    def _slow_round(self) -> None:
        self._push_back()
        for key in dispatch.blocked_definitions() & self._definitions.keys():
            known = (self._definitions[key].fingerprint, vocabulary.current())
            while dispatch.offer_blocked(key, known) and not self._stopped:
                self._wake()
        if messaging.close_children():
            self._wake()
        recovery.forget_old_workers()
        updates.prune()

    def _push_back(self) -> None:
        """What nobody takes is out of the way of claims, and shows as blocked if it is for want of code."""
        for untaken in missing.push_back(leases.registered_definitions(), paused=paused_workflows.names()):
            definition = untaken.definition.replace("\t", " ")
            logger.warning("%d runs are due, but no live worker has the workflow %s.", untaken.due, definition)
            for run_id, workflow_id, name in runs.names(untaken.blocked):
                instrumentation.send(
                    instrumentation.run_blocked,
                    workflow_id=workflow_id,
                    run_id=run_id,
                    name=name,
                    block=blocking.missing(untaken.definition),
                )


def recover() -> int:
    """Give back everything that dead workers have; returns how much it was. Goes on where another sweep stopped."""
    total = 0
    dead = recovery.dead_workers_with_work()
    if not dead:
        return 0
    for run, where in recovery.park_stuck(dead):
        logger.error("Run %s is parked: its code at %s made its worker give up.", run, where or "an unknown place")
    while chains := recovery.release_chains(dead):
        total += len(chains)
    while released := _release_tasks(dead):
        total += released
    if total:
        logger.warning("Recovered %d runs and activities of dead workers %s.", total, dead)
    return total


def _release_tasks(dead: list[int]) -> int:
    """One batch of dead workers' tasks: tried again, or failed as interrupted."""
    with database.sweeping():
        abandoned = recovery.abandoned_tasks(dead)
        ends: list[overdue.End] = []
        for task in abandoned:
            if _may_try_again(task):
                tasks.interrupt(task)
            else:
                ends.append(_interrupted(task))
        busy, woken = delivery.deliver([report for report, _ in ends])
    for chain in woken:
        messaging.hint(chain)
    overdue.tell(ends, busy)
    return len(abandoned) - len(busy)


def _may_try_again(task: ActivityTask) -> bool:
    if task.interruptions + 1 > conf.current().MAX_INTERRUPTIONS:
        return False
    try:
        return not task_rows.load_options(task.name, task.options).options.at_most_once
    except UnknownDefinition:
        return True  # some worker that has the activity decides when it is interrupted again


def _interrupted(task: ActivityTask) -> overdue.End:
    failure = Failure(
        type="Interrupted",
        message=f"The processes that ran this activity died ({task.interruptions + 1} times).",
        non_retryable=True,
    )
    return overdue.ended(task, failure, interrupted=True)
