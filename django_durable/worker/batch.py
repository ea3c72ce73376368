"""A worker for one call: registration, lease and hand-back happen inside it, and nothing of it is left afterwards.

A function that its platform has frozen is a worker that has stopped: it would keep what it owns until its lease ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, InterfaceError

from django_durable import conf, transports
from django_durable.exceptions import WorkBatchFailed, WouldWaitForever
from django_durable.store import database, leases, levels, recovery
from django_durable.worker import embedded
from django_durable.worker.maintenance import recover as recover_dead
from django_durable.worker.worker import Worker

DRAIN_SHARE = 0.2  # of the time, at most DRAIN_SECONDS: what still runs then may end
END_SECONDS = 2.0  # that threads have to end, and hints to leave, when all is done
LEASES_TO_JUDGE = 1.5  # after which a worker may say of others that they are dead, and has said it
HELP_SECONDS = 1.0  # after which a batch that has no room for all first asks others for help, then ever more rarely
JUST_NOW = timedelta(seconds=2)  # since when the last look may have missed what is due

logger = logging.getLogger("django_durable.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkBatch:
    """How a batch of work went."""

    finished: bool
    """Whether it ended because nothing was due any more, or nothing that it could take, and not because the time was
    up."""
    left: tuple[str, ...]
    """The queues in which something is due still, as the time was up."""
    next_due: datetime | None
    """When the next timer, retry, schedule or time limit is due in these queues, or one of them lets in more. None:
    nothing is planned."""
    taken: int
    """Runs and activities that were taken on, each as often as it was."""
    activities: int
    """Attempts that have ended."""
    events: int
    """Events that were written to histories."""
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "finished": self.finished,
            "left": list(self.left),
            "next_due": self.next_due.isoformat() if self.next_due else None,
            "taken": self.taken,
            "activities": self.activities,
            "events": self.events,
            "seconds": round(self.seconds, 3),
        }


def work_batch(
    *,
    max_seconds: float,
    queues: Sequence[str] | None,
    concurrency: int | None,
    recover: bool,
    wait_for_places: bool = True,
) -> WorkBatch:
    """Be a worker until nothing is due, or for ``max_seconds``, and leave nothing behind."""
    if database.in_transaction():
        raise WouldWaitForever(
            "work_batch() was called inside an open transaction, whose writes its worker cannot see and whose locks it "
            "would wait for: call it after the transaction."
        )
    began = time.monotonic()
    others = set(threading.enumerate())
    worker = Worker(
        queues=tuple(queues or ()) or None,
        concurrency=concurrency,
        burst=True,
        listens=False,
        waits_for_dead=recover and _has_time_to_judge(max_seconds),
        waits_for_places=wait_for_places,
    )
    with embedded.standing_back():
        finished = _carry(worker, max_seconds)
        try:
            _leave(worker)
            _end_threads(others)
            return _summary(worker, finished, began, plans_ahead=recover)
        except (DatabaseError, InterfaceError) as error:
            raise WorkBatchFailed(f"The database does not answer at the end of a batch of work: {error}") from error
        finally:
            transports.rest(END_SECONDS)


def _has_time_to_judge(max_seconds: float) -> bool:
    needed = conf.current().LEASE_SECONDS * LEASES_TO_JUDGE
    if max_seconds < needed and leases.anybody_expired(by=0):
        logger.warning(
            "A worker seems to have died. To know that takes %.0f s, and this batch of work has %.0f s: give it more.",
            needed,
            max_seconds,
        )
    return max_seconds >= needed


def _carry(worker: Worker, max_seconds: float) -> bool:
    """Let it work. Whether it ended by itself."""
    until = time.monotonic() + max_seconds
    drain = min(max_seconds * DRAIN_SHARE, conf.current().DRAIN_SECONDS)
    worker.start()
    finished = _work(worker, until - drain)
    if not finished:
        worker.stop(within=drain)
        if not worker.join(max(0.0, until - time.monotonic())):
            worker.force_stop()
            worker.join(END_SECONDS)
    if worker.exit_code == 1 or worker.engine is None:
        raise WorkBatchFailed(
            "The worker of a batch of work could not register, or broke down: see its log. "
            "Does the database answer, and are the migrations applied (manage.py migrate)?"
        )
    return finished and worker.exit_code == 0


def _work(worker: Worker, until: float) -> bool:
    """Let it work until then, and call others while it has to leave work to them. Whether it has ended."""
    pause = HELP_SECONDS
    while not worker.join(max(0.0, min(pause, until - time.monotonic()))):
        if time.monotonic() >= until:
            return False
        if worker.engine is not None and worker.engine.taking.left_something:
            for queue in worker.queues:
                transports.hint_work(queue)
        pause *= 2
    return True


def _leave(worker: Worker) -> None:
    """Give back at once what the worker has not ended, and forget it."""
    recover_dead()
    if worker.id is not None and worker.id not in recovery.dead_workers_with_work():
        leases.forget(worker.id)


def _end_threads(others: Collection[threading.Thread]) -> None:
    """Wait for what has been told to end. Only an activity's thread may be busy still: it cannot be stopped."""
    until = time.monotonic() + END_SECONDS
    for thread in set(threading.enumerate()).difference(others):
        if thread.name.startswith("durable-"):
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                logger.warning(
                    "%s has not ended: an activity took longer than this batch of work. Its result will not count. "
                    "Give it a start_to_close that is shorter than the batch.",
                    thread.name,
                )


def _summary(worker: Worker, finished: bool, began: float, *, plans_ahead: bool) -> WorkBatch:
    """Count what was done, and see to it that somebody is there when the next thing is due."""
    engine = worker.engine
    assert engine is not None
    found = levels.probe(worker.queues)
    held_back = engine.taking.held_back if finished else {}
    moments = [
        *(one for one in _moments(worker.queues, found) if one[0] not in held_back or one[1] > found.time),
        *((level.queue, level.earliest) for level in levels.next_of(found, held_back.keys())),
        *((queue, moment) for queue, moment in held_back.items() if moment is not None),
    ]
    if finished and (plans_ahead or held_back or engine.taking.taken):
        _plan(moments, found.time)  # else it has done nothing, so it has changed nothing: others have planned
    due = {queue for queue, moment in moments if moment <= found.time and not finished}
    return WorkBatch(
        finished=finished,
        left=tuple(queue for queue in worker.queues if queue in due),
        next_due=min((moment for _, moment in moments if moment > found.time), default=None),
        taken=engine.taking.taken,
        activities=engine.results.count,
        events=engine.flushed,
        seconds=time.monotonic() - began,
    )


def _moments(queues: Sequence[str], found: levels.Levels) -> list[tuple[str, datetime]]:
    """When something is due and where; schedules and time limits are anybody's, so the first queue's."""
    anybodys = [moment for moment in (found.next_tick, found.next_expiry) if moment is not None]
    return [
        *((level.queue, level.earliest) for level in (*found.chains, *found.tasks)),
        *((queues[0], moment) for moment in anybodys),
    ]


def _plan(moments: Sequence[tuple[str, datetime]], now: datetime) -> None:
    """One hint for each queue, at its next moment.

    What has been due for longer was seen and left by the last look, for want of code perhaps: a hint would not help.
    """
    earliest: dict[str, datetime] = {}
    for queue, moment in moments:
        if moment > now - JUST_NOW:
            earliest[queue] = min(moment, earliest.get(queue, moment))
    for queue, moment in earliest.items():
        transports.hint_later(queue, max(0.0, (moment - now).total_seconds()))
