"""The end of a workflow, waited for, and what happens until then."""

from __future__ import annotations

from typing import Annotated, Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from ninja import Header, Query, Router, Status

from django_durable.client import WorkflowHandle
from django_durable.client import waiting as waits
from django_durable.contrib.api import options, schemas, scope, streams, waiting
from django_durable.contrib.api.routes.workflows import shown, status_of
from django_durable.history.status import CLOSED
from django_durable.models import WorkflowRun
from django_durable.store import runs

router = Router(tags=["workflows"])


@router.get(
    "/workflows/{path:workflow_id}/result",
    response={200: schemas.WorkflowStatus, 202: schemas.WorkflowStatus},
    operation_id="get_result",
)
async def result(request: HttpRequest, workflow_id: str, wait: Annotated[float | None, Query(ge=0)] = None) -> Any:
    """Wait until a workflow has ended: 200 with its result or its error, or 202 if it goes on still.

    ``wait``: seconds, as many as are allowed unless said otherwise.
    """
    handle = await sync_to_async(scope.handle)(request, workflow_id, action="read")
    has_ended = await waiting.through(_until_closed(handle, waiting.bounded(wait)))
    shown = await sync_to_async(_status)(request, handle)
    return Status(200 if has_ended else 202, shown)


def _until_closed(handle: WorkflowHandle[Any], seconds: float) -> Any:
    return waits.pauses(
        "result()",
        handle.workflow_id,
        handle.run_id,
        has_come=lambda: _has_ended(handle),
        too_late=lambda seconds: "not yet",
        timeout=seconds,
    )


def _has_ended(handle: WorkflowHandle[Any]) -> bool:
    seen = runs.chain_state(handle.run_id)
    return seen is None or seen.status in CLOSED


def _status(request: HttpRequest, handle: WorkflowHandle[Any]) -> dict[str, Any]:
    run: WorkflowRun | None = runs.latest_of_chain(handle.run_id)
    if run is None:
        raise scope.gone(handle.workflow_id)
    return status_of(request, run)


@router.get(
    "/workflows/{path:workflow_id}/events",
    response={200: None, 204: None},
    operation_id="stream_events",
    openapi_extra={"responses": {200: {"content": {streams.CONTENT_TYPE: {"schema": streams.SCHEMA}}}}},
)
def events(
    request: HttpRequest,
    workflow_id: str,
    seconds: Annotated[float | None, Query(ge=0)] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=100)] = None,
) -> Any:
    """Follow a workflow by server-sent events: `status` for each change, `closed` at its end, which ends the stream.

    ``seconds``: how long the stream lasts, as long as is allowed unless said otherwise. 204: there is nothing more to
    come after ``Last-Event-ID``.
    """
    handle = scope.handle(request, workflow_id, action="read")
    return streams.response(
        request,
        handle.status,
        lambda status: shown(request, status),
        seconds=options.current().STREAM_SECONDS if seconds is None else seconds,
        last_id=last_event_id,
    )
