"""Everything that a run's page shows, read with a fixed number of queries and ready for its template."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from django.utils.safestring import SafeString

from django_durable.admin import events, excerpts, failures, families, subjects, times, waiting
from django_durable.admin.badges import badge
from django_durable.admin.events import EventRow
from django_durable.admin.excerpts import Excerpt
from django_durable.admin.failures import ShownFailure
from django_durable.admin.families import Family
from django_durable.admin.subjects import ShownSubject
from django_durable.admin.waiting import Waiting
from django_durable.history import blocking, progress
from django_durable.history.blocking import Block
from django_durable.history.status import OPEN, Status
from django_durable.models import ActivityTask, Dispatch, Worker, WorkflowRun
from django_durable.store import attributes, database, dispatch, history, tasks

EVENTS = 500  # a page
EVENT_DATA = 16_384  # characters of one event: a page of large payloads stays a page
TASKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """An activity that waits for a worker, is on one, or is due for another attempt."""

    name: str
    scheduled: int
    queue: str
    attempts: int
    state: str
    failure: list[ShownFailure]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """A part of a history. ``previous`` and ``next`` are values of the parameter ``after``, None: there is none."""

    rows: list[EventRow]
    first: int
    last: int
    of: int
    previous: int | None
    next: int | None
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    run: WorkflowRun
    badge: SafeString
    created: SafeString
    age: str
    started: SafeString | None
    closed: SafeString | None
    duration: str
    waiting: Waiting | None
    progress: dict[str, Any] | None
    attributes: dict[str, Any]
    subject: ShownSubject | None
    blocked: Block | Excerpt | None
    failure: list[ShownFailure]
    result: Excerpt | None
    input: Excerpt | None
    tasks: list[TaskRow]
    more_tasks: bool
    events: EventPage
    family: Family

    @property
    def block_is_readable(self) -> bool:
        return isinstance(self.blocked, Block)


def position(text: str | None) -> int:
    """The sequence after which a page of the history begins, as an address says it; 0 for nonsense."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else 0


def page_of(run: Any, *, after: int = 0) -> RunPage:
    """The page of ``run``, a row that carries ``now``."""
    is_open = run.status in OPEN
    place = waiting.with_pause(dispatch.rows().filter(pk=run.chain_id, run_id=run.pk), run.name)
    row = place.first() if is_open else None
    begun = run.started_at or (row.started_at if row else None)
    pending = tasks.rows().filter(chain_id=run.chain_id, run_id=run.pk).order_by("scheduled")[: TASKS + 1]
    rows = _tasks(list(pending), run.now)
    return RunPage(
        run=run,
        badge=badge(_status(run, row)),
        created=times.moment(run.created_at, milliseconds=True),
        age=times.duration(run.now - run.created_at),
        started=times.moment(begun, milliseconds=True) if begun else None,
        closed=times.moment(run.closed_at, milliseconds=True) if run.closed_at else None,
        duration=times.duration((run.closed_at or run.now) - begun) if begun else "",
        waiting=waiting.waiting_of(run, row, run.now) if is_open else None,
        progress=progress.decode(run.progress),
        attributes=attributes.read(run.pk),
        subject=subjects.subject_of(run),
        blocked=_blocked(run.blocked),
        failure=failures.stored_chain(run.failure),
        result=excerpts.of_column(run.result),
        input=excerpts.of_column(run.input),
        tasks=rows[:TASKS],
        more_tasks=len(rows) > TASKS,
        events=_events(run, after),
        family=families.family_of(run),
    )


def _status(run: WorkflowRun, row: Dispatch | None) -> str:
    return Status.PENDING if row is not None and row.started_at is None else run.status


def _blocked(stored: str | None) -> Block | Excerpt | None:
    try:
        return blocking.decode(stored)
    except (msgspec.MsgspecError, RecursionError):
        return excerpts.of_text(stored or "")


def _tasks(found: list[ActivityTask], now: datetime) -> list[TaskRow]:
    holders = {task.worker for task in found if task.worker is not None}
    workers = Worker.objects.using(database.alias()).in_bulk(holders) if holders else {}
    return [
        TaskRow(
            name=task.name,
            scheduled=task.scheduled,
            queue=task.queue,
            attempts=task.attempt,
            state=_task_state(task, workers, now),
            failure=failures.stored_chain(task.failure),
        )
        for task in found
    ]


def _task_state(task: ActivityTask, workers: dict[int, Worker], now: datetime) -> str:
    if task.worker is not None:
        return f"on worker {workers.get(task.worker, f'#{task.worker}')}"
    if task.due_at <= now:
        return f"due since {times.duration(now - task.due_at)}"
    return f"due in {times.duration(task.due_at - now)}"


def _events(run: WorkflowRun, after: int) -> EventPage:
    """The events after ``after``; beyond the end it is the last page."""
    last = history.last_sequence(run.pk)
    end = max(0, last - 1) // EVENTS * EVENTS
    after = after if after < last else end
    rows = [
        events.row(stored, begin=run.created_at)
        for stored in history.page(run.pk, after, EVENTS, data_limit=EVENT_DATA)
    ]
    events.share_scopes(rows)
    shown = rows[-1].sequence if rows else 0
    return EventPage(
        rows=rows,
        first=rows[0].sequence if rows else 0,
        last=shown,
        of=last,
        previous=max(0, after - EVENTS) if after else None,
        next=shown if shown < last else None,
        end=end,
    )
