"""Spans around what happens once: a start, an attempt, and a run, which is one span that is made at its end.

A replay makes none: it starts nothing, executes nothing and ends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from django_durable import instrumentation, propagation
from django_durable.definitions.current import current_activity
from django_durable.history.failures import Failure
from django_durable.payloads.payload import Payload

tracer = trace.get_tracer("django_durable")


@contextmanager
def _starting(*, name: str) -> Iterator[None]:
    """The span that is active while the run takes its context along, so everything that follows is below it."""
    with tracer.start_as_current_span(
        f"start {name}", kind=SpanKind.PRODUCER, attributes={"durable.workflow.name": name}
    ):
        yield


@contextmanager
def _attempting(*, name: str) -> Iterator[None]:
    activity = current_activity()
    with tracer.start_as_current_span(
        f"activity {name}",
        kind=SpanKind.CONSUMER,
        attributes={
            "durable.activity.name": name,
            "durable.activity.attempt": activity.attempt,
            "durable.workflow.id": activity.workflow_id,
            "durable.run.id": str(activity.run_id),
            "durable.queue": activity.queue,
        },
        record_exception=False,  # what is raised through here is the worker's own affair
        set_status_on_exception=False,
    ):
        yield


def _failed(*, error: Failure, exception: BaseException | None, delay: Any, **_: Any) -> None:
    """Sent in the attempt's own thread, in which its span is the active one."""
    if exception is None:
        return
    span = trace.get_current_span()
    span.record_exception(exception, attributes={"durable.activity.retried": delay is not None})
    span.set_status(Status(StatusCode.ERROR, f"{error.type}: {error.message}"))


def _closed(
    *,
    workflow_id: str,
    run_id: UUID,
    name: str,
    queue: str,
    status: str,
    started_at: datetime | None,
    closed_at: datetime | None,
    headers: Payload | None,
    failure: str | None,
    **_: Any,
) -> None:
    if started_at is None or closed_at is None:
        return
    carried = propagation.carried(headers, "trace")
    span = tracer.start_span(
        f"workflow {name}",
        context=propagate.extract(carried or {}),
        kind=SpanKind.INTERNAL,
        start_time=_nanoseconds(started_at),
        attributes={
            "durable.workflow.name": name,
            "durable.workflow.id": workflow_id,
            "durable.run.id": str(run_id),
            "durable.run.status": str(status),
            "durable.queue": queue,
        },
    )
    if failure is not None:
        reason = msgspec.json.decode(failure, type=Failure)
        span.set_status(Status(StatusCode.ERROR, f"{reason.type}: {reason.message}"))
    span.end(end_time=_nanoseconds(closed_at))


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000


def connect() -> None:
    """Make spans from now on; once, however often it is called."""
    instrumentation.starting.connect(_starting)
    instrumentation.attempting.connect(_attempting)
    instrumentation.activity_failed.connect(_failed, dispatch_uid="durable.tracing.failed")
    instrumentation.run_closed.connect(_closed, dispatch_uid="durable.tracing.closed")


def disconnect() -> None:
    """Make no more spans."""
    instrumentation.starting.disconnect(_starting)
    instrumentation.attempting.disconnect(_attempting)
    instrumentation.activity_failed.disconnect(dispatch_uid="durable.tracing.failed")
    instrumentation.run_closed.disconnect(dispatch_uid="durable.tracing.closed")
