"""Ticks of schedules: each in one transaction that locks the schedule, starts its run and says when the next is due.

So a tick starts exactly one run, however many workers look, and whatever becomes of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django_durable.client import ending, scheduling
from django_durable.definitions.schedule import Overlap
from django_durable.definitions.schedule import Schedule as Spec
from django_durable.exceptions import WorkflowAlreadyStarted
from django_durable.models import Schedule
from django_durable.store import clock, database, outages, schedules

logger = logging.getLogger("django_durable.worker")

MOST_TICKS = 1_000  # of one schedule in one transaction
WAITING_PAUSES = (timedelta(milliseconds=50), timedelta(seconds=1))
"""Least and most before a schedule whose ticks wait for a run to end is looked at again."""
WAITING_SHARE = 4  # such a part of the run's age, so that short runs follow each other at once
MOST_WAITING = 10_000


def tick(definitions: Collection[str]) -> int:
    """Do what is due of the schedules of these workflows; returns how many were looked at."""
    count = 0
    schedules.hurry_waiting()
    while _tick_one(definitions):
        count += 1
    return count


def _tick_one(definitions: Collection[str]) -> bool:
    with database.sweeping():
        row = schedules.due(definitions)
        if row is None:
            return False
        spec, now = schedules.spec_of(row), clock.read()
        turn = _Turn(row=row, spec=spec, now=now, latest=schedules.youngest(row.name))
        _collect(turn)
        _decide(turn)
        _plan(turn)
        schedules.save(row)
    return True


@dataclass(slots=True, kw_only=True)
class _Turn:
    """One schedule while its ticks are decided. ``latest``: when the latest of its open runs began; None: none is."""

    row: Schedule
    spec: Spec
    now: datetime
    latest: datetime | None
    ticks: list[schedules.Tick] | None = None
    kept: list[schedules.Tick] | None = None


def _collect(turn: _Turn) -> None:
    """The ticks that have come, after those that wait; what is too old to be made up for is skipped."""
    row, spec, now = turn.row, turn.spec, turn.now
    turn.ticks = schedules.waiting_of(row)
    if row.paused:
        return
    oldest = now - spec.catch_up
    for _ in range(MOST_TICKS):
        if row.tick_at is None or row.tick_at + spec.lateness(row.name, row.tick_at) > now:
            return
        if row.tick_at < oldest:
            row.skipped += 1
            following = spec.after(row.tick_at)
            # After a long silence the years in between are not counted one by one.
            row.tick_at = spec.after(oldest) if following is not None and following < oldest else following
        else:
            turn.ticks.append(schedules.Tick(row.tick_at))
            row.tick_at = spec.after(row.tick_at)


def _decide(turn: _Turn) -> None:
    """Start, keep or skip each tick, as the overlap policy says."""
    turn.kept = []
    for one in turn.ticks or ():
        if turn.row.runs_left == 0:
            turn.row.skipped += 1
        elif turn.kept and (one.overlap or turn.spec.overlap) not in ("skip", "allow_all", "buffer_one"):
            turn.kept.append(one)  # those before it wait: it does not overtake them
        elif turn.latest is None:
            _start(turn, one)
        else:
            _OVERLAPS[one.overlap or turn.spec.overlap](turn, one)
    turn.row.skipped += len(turn.kept[MOST_WAITING:])
    turn.row.waiting = schedules.dump_ticks(turn.kept[:MOST_WAITING])


def _plan(turn: _Turn) -> None:
    row = turn.row
    if row.runs_left == 0:
        row.tick_at = None
    schedules.plan(row, turn.spec)
    if turn.kept:
        least, most = WAITING_PAUSES
        age = turn.now - (turn.latest or turn.now)
        again = turn.now + min(max(age / WAITING_SHARE, least), most)
        row.next_at = again if row.next_at is None else min(row.next_at, again)


def _start(turn: _Turn, one: schedules.Tick) -> None:
    row = turn.row
    try:
        with database.writing():
            handle = scheduling.start(row, one.at)
    except WorkflowAlreadyStarted:
        row.skipped += 1  # a backfill of a tick that had its run
        return
    except Exception as error:
        if outages.is_outage(error) or outages.is_conflict(error):
            raise
        logger.exception("Schedule %s could not start its run of %s.", row.name, one.at)
        row.error, row.skipped = f"{type(error).__name__}: {error}"[:2_000], row.skipped + 1
        return
    row.error, row.last_tick_at, row.last_run_id = "", one.at, handle.run_id
    row.started += 1
    turn.latest = turn.now
    if row.runs_left is not None:
        row.runs_left -= 1


def _skip(turn: _Turn, one: schedules.Tick) -> None:
    turn.row.skipped += 1


def _keep(turn: _Turn, one: schedules.Tick) -> None:
    assert turn.kept is not None
    turn.kept.append(one)


def _keep_one(turn: _Turn, one: schedules.Tick) -> None:
    """The first one waits; those that come while it does are skipped."""
    (_skip if turn.kept else _keep)(turn, one)


def _cancel_other(turn: _Turn, one: schedules.Tick) -> None:
    """Ask what is open to end, and start once it has. A tick that has asked is kept as one that merely waits."""
    for workflow_id, run_id in schedules.open_runs(turn.row.name):
        ending.cancel_workflow(workflow_id, f"Schedule {turn.row.name} starts another run.", run_id=run_id)
    _keep(turn, schedules.Tick(one.at, "buffer_all"))


def _terminate_other(turn: _Turn, one: schedules.Tick) -> None:
    for workflow_id, run_id in schedules.open_runs(turn.row.name):
        ending.terminate_workflow(workflow_id, f"Schedule {turn.row.name} starts another run.", run_id=run_id)
    _start(turn, one)


_OVERLAPS: dict[Overlap, Callable[[_Turn, schedules.Tick], None]] = {
    "skip": _skip,
    "buffer_one": _keep_one,
    "buffer_all": _keep,
    "cancel_other": _cancel_other,
    "terminate_other": _terminate_other,
    "allow_all": _start,
}
