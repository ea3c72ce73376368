"""Reading workflows: their status and history, as frozen values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from django_durable.exceptions import WorkflowNotFound
from django_durable.history import blocking, lingering, progress
from django_durable.history.events import Recorded
from django_durable.history.failures import Failure
from django_durable.history.status import OPEN, Status
from django_durable.models import WorkflowRun
from django_durable.payloads import payload
from django_durable.store import attributes, dispatch, history, runs

INTERNAL = ("input", "error_traceback", "error_cause", "blocked")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowStatus:
    """How a workflow is. Times are aware datetimes; ``result`` is a plain JSON value.

    ``as_dict()`` is safe to hand to a customer: neither input nor traceback nor cause.
    """

    workflow_id: str
    run_id: UUID
    name: str
    status: Status
    queue: str
    created_at: datetime
    started_at: datetime | None = None
    closed_at: datetime | None = None
    wakeup_at: datetime | None = None
    progress: dict[str, Any] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    result: Any = None
    error_type: str | None = None
    error_message: str | None = None
    error_traceback: str | None = None
    error_cause: dict[str, Any] | None = None
    blocked: dict[str, Any] | None = None
    open_handlers: list[str] = field(default_factory=list)
    unhandled_signals: list[str] = field(default_factory=list)
    input: Any = None

    @property
    def is_closed(self) -> bool:
        return self.status not in OPEN

    def as_dict(self, *, internal: bool = False) -> dict[str, Any]:
        """The status as JSON values: ids and times as text. ``internal`` adds what only staff should see."""
        names = [one.name for one in fields(self) if internal or one.name not in INTERNAL]
        values: dict[str, Any] = msgspec.to_builtins({name: getattr(self, name) for name in names})
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One event of a run's history; ``data`` holds its fields as plain JSON values."""

    sequence: int
    type: str
    time: datetime
    data: dict[str, Any]


class History(list[HistoryEntry]):
    """The events of the run ``run_id``, in order."""

    def __init__(self, run_id: UUID, entries: Iterable[HistoryEntry]) -> None:
        super().__init__(entries)
        self.run_id = run_id


def get_workflow_status(workflow_id: str) -> WorkflowStatus:
    """The status of the latest run of ``workflow_id``. Raises ``WorkflowNotFound``."""
    run = runs.latest(workflow_id)
    if run is None:
        raise WorkflowNotFound(f"There is no workflow {workflow_id!r}. Was its start rolled back?")
    return status_of(run)


def status_of(run: WorkflowRun) -> WorkflowStatus:
    """The status of a run, together with what its dispatch row knows while it is open."""
    status = Status(run.status)
    started_at, wakeup_at = run.started_at, None
    if status in OPEN:
        row = dispatch.rows().filter(pk=run.chain_id, run_id=run.pk).first()
        if row is not None:
            started_at, wakeup_at = row.started_at, row.wakeup_at if row.owner is None else None
            status = Status.PENDING if row.started_at is None and status is Status.RUNNING else status
    failure = failure_of(run)
    block = blocking.decode(run.blocked)
    waits = lingering.decode(run.lingering) if status in OPEN else None
    return WorkflowStatus(
        workflow_id=run.workflow_id,
        run_id=run.pk,
        name=run.name,
        status=status,
        queue=run.queue,
        created_at=run.created_at,
        started_at=started_at,
        closed_at=run.closed_at,
        wakeup_at=wakeup_at,
        progress=progress.decode(run.progress),
        attributes=attributes.read(run.pk),
        result=plain(run.result),
        error_type=failure.type if failure else None,
        error_message=failure.message if failure else None,
        error_traceback=failure.traceback if failure else None,
        error_cause=msgspec.to_builtins(failure.cause) if failure and failure.cause else None,
        blocked=msgspec.structs.asdict(block) if block else None,
        open_handlers=list(waits.handlers) if waits else [],
        unhandled_signals=list(waits.signals) if waits else [],
        input=plain(run.input),
    )


def failure_of(run: WorkflowRun) -> Failure | None:
    """What made a run end without a result."""
    return msgspec.json.decode(run.failure, type=Failure) if run.failure else None


def plain(stored: str | None) -> Any:
    """A stored payload as plain JSON values."""
    return None if stored is None else msgspec.json.decode(payload.load(stored).data)


def history_of(run_id: UUID) -> History:
    """The events of a run, in order."""
    return History(run_id, map(_entry_of, history.read([run_id])[run_id]))


def _entry_of(recorded: Recorded) -> HistoryEntry:
    return HistoryEntry(
        sequence=recorded.sequence,
        type=type(recorded.event).__name__,
        time=recorded.time,
        data=_readable(recorded.event),
    )


def _readable(event: msgspec.Struct) -> dict[str, Any]:
    """The fields of an event, payloads unwrapped to their values."""
    values: dict[str, Any] = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, payload.Payload):
            values[name] = msgspec.json.decode(value.data)
        elif isinstance(value, Failure):
            values[name] = msgspec.to_builtins(value)
        else:
            values[name] = value
    return values
