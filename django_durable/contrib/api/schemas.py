"""What goes in and out, as the OpenAPI schema has it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from ninja import Schema
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, ConfigDict, Field

from django_durable.definitions.schedule import Overlap
from django_durable.history.status import Status

LONGEST = timedelta(days=3_650).total_seconds()
YEARS = range(1970, 9000)  # that every database, in every time zone, can hold


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("may have printable characters only")
    return text


def _iso(value: Any) -> Any:
    """Numbers, which pydantic would take for seconds since 1970, are none."""
    if isinstance(value, str) and "-" not in value[1:]:
        raise ValueError("is not in the format of RFC 3339")
    return value


def _storable(moment: datetime) -> datetime:
    if moment.year not in YEARS:
        raise ValueError("is out of range")
    return moment


Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_printable)]
Label = Annotated[str, Field(max_length=255), AfterValidator(_printable)]
Moment = Annotated[AwareDatetime, BeforeValidator(_iso), AfterValidator(_storable)]
ScheduleNameText = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Reason = Annotated[str, Field(max_length=1_000), AfterValidator(_printable)]

StoredStatus = Literal[
    "running",
    "paused",
    "blocked",
    "completed",
    "failed",
    "cancelled",
    "terminated",
    "timed_out",
    "continued_as_new",
]
"""The statuses that a list can be filtered by: ``pending`` runs count as running."""


class Request(Schema):
    """The body of a request: what is not known is refused, so that a slip of the pen does not pass in silence."""

    model_config = ConfigDict(extra="forbid")


class StartRequest(Request):
    """The start of a workflow."""

    workflow: Name
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    workflow_id: Name | None = Field(None, description="Unique among open runs; without one it is the run's own id.")
    on_conflict: Literal["fail", "use_existing"] | None = Field(
        None, description="What happens while a run of that workflow_id is open; null: what the workflow declares."
    )
    start_delay: float | None = Field(None, ge=0, le=LONGEST, description="Seconds.")
    label: Label | None = None


class SignalRequest(Request):
    """A signal."""

    name: Name
    payload: Any = None


class QueryRequest(Request):
    """A query."""

    name: Name
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class UpdateRequest(Request):
    """An update."""

    name: Name
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    wait: float | None = Field(None, ge=0, description="Seconds to wait for the reply; null: as long as is allowed.")


class ReasonRequest(Request):
    """Why."""

    reason: Reason = ""


class Run(Schema):
    """A run, by its ids."""

    workflow_id: str
    run_id: UUID


class Done(Run):
    """What became of an act. ``done`` false: there was nothing to do, because it had ended or was so already."""

    done: bool


class Progress(Schema):
    """What a run says it is doing: ``done`` of ``total``, in whatever unit the text speaks of."""

    text: str
    done: float | None = None
    total: float | None = None


class Overview(Run):
    """How a run is, as lists show it."""

    name: str
    status: Status
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


class WorkflowStatus(Overview):
    """How a run is. The last four are null unless the requester may see what is internal."""

    result: Any = None
    input: Any = None
    error_traceback: str | None = None
    error_cause: dict[str, Any] | None = None
    blocked: dict[str, Any] | None = None


class RunPage(Schema):
    """Some runs, the latest first."""

    items: list[Overview]
    next_cursor: str | None = Field(None, description="Of the next page; null: this was the last.")


class HistoryEvent(Schema):
    """One event. ``data`` is null unless the requester may see what is internal."""

    sequence: int
    type: str
    time: datetime
    data: dict[str, Any] | None = None


class HistoryPage(Run):
    """Some events of a run, in order."""

    items: list[HistoryEvent]
    next_after: int | None = Field(None, description="What the next page comes after; null: this was the last so far.")


class Reply(Schema):
    """What a query or an update gives."""

    result: Any = None


class UpdateReply(Run):
    """What has become of an update. ``done`` false: not yet answered; ask again with the same Idempotency-Key."""

    update_id: str
    done: bool
    result: Any = None


class ScheduleStatus(Schema):
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


class ScheduleDetails(ScheduleStatus):
    """The same, with what else decides, and with what comes next."""

    overlap: Overlap
    catch_up_seconds: float
    jitter_seconds: float
    start_at: datetime | None = None
    end_at: datetime | None = None
    max_runs: int | None = None
    upcoming: list[datetime] = []


class SchedulePage(Schema):
    """Some schedules, by name."""

    items: list[ScheduleStatus]
    next_after: str | None = Field(None, description="What the next page comes after; null: this was the last.")


class ScheduleRequest(Request):
    """A note for people."""

    note: Reason = ""


class ScheduleTimes(Request):
    """When a schedule starts something: either ``cron`` or ``every_seconds`` says so."""

    cron: str | None = Field(None, max_length=255, description="Five fields, or six with seconds first.")
    every_seconds: float | None = Field(None, ge=1, le=LONGEST)
    time_zone: Name | None = Field(None, description="Of cron, such as Europe/Berlin; null: the project's.")
    overlap: Overlap = Field("skip", description="What happens while a run of the schedule is open.")
    catch_up_seconds: float = Field(3_600, ge=0, le=LONGEST, description="How old a tick may be that is made up for.")
    jitter_seconds: float = Field(0, ge=0, le=LONGEST, description="By how much a tick may be late.")
    start_at: Moment | None = None
    end_at: Moment | None = None
    max_runs: int | None = Field(None, ge=1, le=2**31 - 1, description="The schedule ends after so many starts.")


class CreateScheduleRequest(ScheduleTimes):
    """A schedule, and what it starts."""

    name: ScheduleNameText
    workflow: Name
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    label: Label | None = None
    paused: bool = False
    note: Reason = ""


class UpdateScheduleRequest(ScheduleTimes):
    """What is to change; what is not given stays as it is."""


class BackfillRequest(Request):
    """A stretch of time, its ends included."""

    start: Moment
    end: Moment
    overlap: Overlap = "buffer_all"


class ScheduleName(Schema):
    """A schedule, by its name."""

    name: str


class Backfilled(ScheduleName):
    """How many ticks get a run."""

    ticks: int


class QueueStatus(Schema):
    """How much waits in a queue for a worker. Ages are seconds."""

    name: str
    runs_due: int
    activities_due: int
    oldest_seconds: float | None = None
    runs_owned: int
    activities_running: int
    workers: int
    started_per_minute: float
    finished_per_minute: float
    paused: bool


class QueueList(Schema):
    """The queues that are served, or in which something waits."""

    items: list[QueueStatus]


class WorkerStatus(Schema):
    """A worker that is alive."""

    id: int
    name: str
    queues: list[str]
    concurrency: int
    release: str
    started_at: datetime
    heartbeat_at: datetime
    stopping: bool


class WorkerList(Schema):
    """The workers that are alive."""

    items: list[WorkerStatus]


class Health(Schema):
    """Whether the database answers, and whether a worker is alive to get anything done."""

    status: Literal["ok", "no-workers"]
    workers: int


class FieldError(Schema):
    """What is wrong with one part of a request, and where that is."""

    model_config = ConfigDict(populate_by_name=True)

    place: list[str] = Field(alias="in")
    message: str


class Problem(Schema):
    """An error, as RFC 9457 has it. Members beside these depend on its type."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldError] | None = None
