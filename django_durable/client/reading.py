"""Reading workflows: their status and history, as frozen values."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from django_durable.client import finding, surroundings
from django_durable.exceptions import PayloadUnreadable
from django_durable.history import blocking, lingering, progress
from django_durable.history.events import Recorded
from django_durable.history.failures import Failure
from django_durable.history.status import OPEN, Status
from django_durable.models import WorkflowRun
from django_durable.payloads import payload
from django_durable.store import attributes, history, snapshots, status_cache
from django_durable.store.snapshots import Snapshot

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
    """The status of the latest run of ``workflow_id``. Raises ``WorkflowNotFound``.

    With ``DURABLE["STATUS_CACHE"]`` it may be a few seconds old.
    """
    surroundings.check_code("get_workflow_status()")
    known = status_cache.recall(workflow_id)
    if known is not None:
        return status_from(known)
    since = time.monotonic()
    snapshot = snapshots.latest(workflow_id)
    if snapshot is None:
        raise finding.unknown(workflow_id)
    status_cache.remember(snapshot, since=since)
    return status_from(snapshot)


def status_of_chain(workflow_id: str, run_id: UUID) -> WorkflowStatus | None:
    """The status of the latest run of the chain of ``run_id``, if the cache knows it."""
    known = status_cache.recall(workflow_id)
    return status_from(known) if known is not None and run_id in known.runs else None


def status_of(run: WorkflowRun) -> WorkflowStatus:
    """The status of a run that was just read, together with what other tables know of it now."""
    return status_from(snapshots.of(run))


def overviews(found: Sequence[WorkflowRun]) -> list[WorkflowStatus]:
    """The statuses of many runs, in two statements; their inputs and results, which may be deferred, are left out."""
    return [status_from(one) for one in snapshots.read_all(found, payloads=False)]


def status_from(known: Snapshot) -> WorkflowStatus:
    """The status of a run, of what is stored of it."""
    status = Status(known.status)
    started_at, wakeup_at = known.started_at, None
    if known.place is not None and status in OPEN:
        started_at, wakeup_at = known.place.started_at, None if known.place.owned else known.place.wakeup_at
        status = Status.PENDING if started_at is None and status is Status.RUNNING else status
    failure = _failure(known.failure)
    block = blocking.decode(known.blocked)
    waits = lingering.decode(known.lingering) if status in OPEN else None
    return WorkflowStatus(
        workflow_id=known.workflow_id,
        run_id=known.run_id,
        name=known.name,
        status=status,
        queue=known.queue,
        created_at=known.created_at,
        started_at=started_at,
        closed_at=known.closed_at,
        wakeup_at=wakeup_at,
        progress=progress.decode(known.progress),
        attributes=attributes.loaded(known.attributes),
        result=plain(known.result),
        error_type=failure.type if failure else None,
        error_message=failure.message if failure else None,
        error_traceback=failure.traceback if failure else None,
        error_cause=msgspec.to_builtins(failure.cause) if failure and failure.cause else None,
        blocked=msgspec.structs.asdict(block) if block else None,
        open_handlers=list(waits.handlers) if waits else [],
        unhandled_signals=list(waits.signals) if waits else [],
        input=_shown(known.input),
    )


def failure_of(run: WorkflowRun) -> Failure | None:
    """What made a run end without a result."""
    return _failure(run.failure)


def _failure(stored: str | None) -> Failure | None:
    return msgspec.json.decode(stored, type=Failure) if stored else None


def plain(stored: str | None) -> Any:
    """A stored payload as plain JSON values. Raises ``PayloadUnreadable``."""
    if stored is None:
        return None
    return msgspec.json.decode(payload.opened(payload.load(stored), what="This value").data)


def _shown(stored: str | None) -> Any:
    """The same; of what cannot be read here its format, so that people can still see how the run is."""
    try:
        return plain(stored)
    except PayloadUnreadable:
        return f"<{payload.load(stored or '').format}>"


def history_of(run_id: UUID) -> History:
    """The events of a run, in order."""
    return History(run_id, map(_entry_of, history.read([run_id])[run_id]))


def history_page(run_id: UUID, *, after: int = 0, limit: int) -> list[HistoryEntry]:
    """The next ``limit`` events of a run behind the sequence ``after``."""
    return list(map(_entry_of, history.read_page(run_id, after=after, limit=limit)))


def _entry_of(recorded: Recorded) -> HistoryEntry:
    return HistoryEntry(
        sequence=recorded.sequence,
        type=type(recorded.event).__name__,
        time=recorded.time,
        data=_readable(recorded.event),
    )


def plain_data(entry: HistoryEntry) -> dict[str, Any]:
    """What an event holds, as JSON values throughout."""
    data: dict[str, Any] = msgspec.to_builtins(entry.data, str_keys=True)
    return data


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
