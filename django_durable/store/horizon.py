"""When the next thing is due, for tests that skip the time until then."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, Min, OuterRef, Q

from django_durable.store import clock, dispatch, runs, schedules, tasks

_BEHIND = timedelta(milliseconds=1)  # a deadline is over only when it has passed


def next_moment(*, everything: bool) -> datetime | None:
    """The earliest moment after now at which a run, an activity or a deadline of one is due; None: nothing is.

    ``everything``: also what never ends by itself and what nobody waits for who waits for a result, ticks of schedules
    and runs that wait for other code and are only tried again.
    """
    now = clock.read()
    chains = dispatch.rows() if everything else dispatch.rows().exclude(hold=dispatch.BLOCKED)
    waking = _earliest(chains.unowned(), "wakeup_at", now)
    ending = _earliest(chains, "deadline", now)
    ticking = _earliest(_ticking(), "next_at", now) if everything else None
    due = _earliest(tasks.rows().filter(worker__isnull=True), "due_at", now)
    late = [
        moment + delay + _BEHIND
        for rows, name, delay in (
            (tasks.rows().filter(worker__isnull=False), "deadline", tasks.OVERDUE_GRACE),
            (tasks.rows().filter(worker__isnull=True), "start_before", timedelta(0)),
            (tasks.rows(), "expires_at", timedelta(0)),
        )
        if (moment := _earliest(rows, name, now - delay - _BEHIND)) is not None
    ]
    return min([*(one for one in (waking, ending, ticking, due) if one is not None), *late], default=None)


def _ticking() -> Any:
    """Schedules, apart from those that only look again and again whether a run of theirs has ended."""
    mine = runs.rows().filter(schedule=OuterRef("name"), open_workflow_id__isnull=False)
    return schedules.rows().exclude(~Q(waiting="[]") & Exists(mine))


def _earliest(rows: Any, name: str, after: datetime) -> datetime | None:
    found: datetime | None = rows.filter(**{f"{name}__gt": after}).aggregate(earliest=Min(name))["earliest"]
    return found


def queues_in_use() -> set[str]:
    """Every queue that some open chain or waiting activity names."""
    return {*dispatch.rows().values_list("queue", flat=True), *tasks.rows().values_list("queue", flat=True)}
