"""What the API answers, as values. Members that this release does not know are left out."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

Overlap = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run, by its ids."""

    workflow_id: str
    run_id: UUID


class Done(Run, frozen=True, kw_only=True):
    """What became of an act. ``done`` false: there was nothing to do."""

    done: bool


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What a run says it is doing: ``done`` of ``total``, in whatever unit the text speaks of."""

    text: str
    done: float | None = None
    total: float | None = None


class Overview(Run, frozen=True, kw_only=True):
    """How a run is, as lists show it. Times are aware datetimes."""

    name: str
    status: str
    queue: str
    created_at: datetime
    started_at: datetime | None = None
    closed_at: datetime | None = None
    wakeup_at: datetime | None = None
    progress: Progress | None = None
    attributes: dict[str, Any] = {}
    error_type: str | None = None
    error_message: str | None = None
    open_handlers: list[str] = []
    unhandled_signals: list[str] = []

    @property
    def is_closed(self) -> bool:
        return self.closed_at is not None


class WorkflowStatus(Overview, frozen=True, kw_only=True):
    """How a run is. ``input``, ``error_traceback``, ``error_cause`` and ``blocked`` need a permission."""

    result: Any = None
    input: Any = None
    error_traceback: str | None = None
    error_cause: dict[str, Any] | None = None
    blocked: dict[str, Any] | None = None


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some runs, the latest first. ``next_cursor`` None: this was the last page."""

    items: list[Overview]
    next_cursor: str | None = None


class HistoryEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event. ``data`` needs a permission."""

    sequence: int
    type: str
    time: datetime
    data: dict[str, Any] | None = None


class HistoryPage(Run, frozen=True, kw_only=True):
    """Some events of a run, in order. ``next_after`` None: these were the last so far."""

    items: list[HistoryEvent]
    next_after: int | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a query gives."""

    result: Any = None


class UpdateReply(Run, frozen=True, kw_only=True):
    """What has become of an update. ``done`` false: not yet answered; ask again with the same idempotency key."""

    update_id: str
    done: bool
    result: Any = None


class ScheduleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a schedule is."""

    name: str
    workflow: str
    cron: str | None = None
    every_seconds: float | None = None
    time_zone: str | None = None
    paused: bool
    note: str
    next_at: datetime | None = None
    last_at: datetime | None = None
    last_run_id: UUID | None = None
    started: int
    skipped: int
    waiting: int
    runs_left: int | None = None
    error: str


class ScheduleDetails(ScheduleStatus, frozen=True, kw_only=True):
    """The same, with what else decides, and with what comes next."""

    overlap: str = "skip"
    catch_up_seconds: float = 3_600.0
    jitter_seconds: float = 0.0
    start_at: datetime | None = None
    end_at: datetime | None = None
    max_runs: int | None = None
    upcoming: list[datetime] = []


class ScheduleName(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule, by its name."""

    name: str


class Backfilled(ScheduleName, frozen=True, kw_only=True):
    """How many ticks get a run."""

    ticks: int


class SchedulePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some schedules, by name. ``next_after`` None: this was the last page."""

    items: list[ScheduleStatus]
    next_after: str | None = None


class QueueStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How much waits in a queue for a worker."""

    name: str
    runs_due: int
    activities_due: int
    oldest_seconds: float | None = None
    runs_owned: int
    activities_running: int
    workers: int
    started_per_minute: float
    finished_per_minute: float
    paused: bool = False


class QueueList(msgspec.Struct, frozen=True, kw_only=True):
    """The queues."""

    items: list[QueueStatus]


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that is alive."""

    id: int
    name: str
    queues: list[str]
    concurrency: int
    release: str
    started_at: datetime
    heartbeat_at: datetime
    stopping: bool


class WorkerList(msgspec.Struct, frozen=True, kw_only=True):
    """The workers that are alive."""

    items: list[WorkerStatus]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a worker is alive to get anything done."""

    status: str
    workers: int
