"""Workflows: started, listed, and looked at."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from ninja import Header, Query, Router, Schema
from pydantic import Field

from django_durable.client import reading
from django_durable.contrib.api import cursors, options, schemas, scope, starting
from django_durable.contrib.api.problems import Problem
from django_durable.contrib.api.schemas import Moment, Name, StoredStatus
from django_durable.models import WorkflowRun
from django_durable.querysets import RunQuerySet
from django_durable.store import snapshots, status_cache

router = Router(tags=["workflows"])

UNSEEN = ("input", "result", "headers", "retry")  # columns that a list does not show
ATTRIBUTES = 10  # filters by attribute in one request

Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=starting.KEY_LIMIT)]


@router.post("/workflows", response={202: schemas.Run}, operation_id="start_workflow")
def start(request: HttpRequest, response: HttpResponse, body: schemas.StartRequest, idempotency_key: Key = None) -> Any:
    """Start a workflow. Sent again with the same Idempotency-Key, it starts nothing and answers the same."""
    handle = starting.start(request, body, idempotency_key)
    response["Location"] = reverse(f"{request.resolver_match.namespace}:status", args=[handle.workflow_id])  # type: ignore[union-attr]
    return {"workflow_id": handle.workflow_id, "run_id": handle.run_id}


class Filters(Schema):
    """What a list is cut down to."""

    name: list[Name] = Field([], description="Names of workflows.")
    status: list[StoredStatus] = Field([], description="Runs that have not begun count as running.")
    workflow_id: Name | None = None
    queue: Name | None = None
    attribute: list[str] = Field(
        [], max_length=ATTRIBUTES, description="Search attributes as name:value, the value as JSON or plain text."
    )
    created_after: Moment | None = None
    created_before: Moment | None = None


class Paging(Schema):
    """Which part of it."""

    cursor: str | None = Field(None, max_length=500, description="next_cursor of the page before.")
    limit: int | None = Field(None, ge=1, description="Entries of a page; more than is allowed is less.")


@router.get("/workflows", response=schemas.RunPage, operation_id="list_workflows")
def list_(request: HttpRequest, filters: Query[Filters], paging: Query[Paging]) -> Any:
    """Runs, the latest first."""
    scope.permit(request, "read")
    question = filters.model_dump(mode="json", exclude_defaults=True)
    visible = _filtered(scope.visible(request), filters)
    if paging.cursor is not None:
        visible = visible.filter(cursors.condition(paging.cursor, question))
    limit = page_size(paging.limit)
    page = list(visible.defer(*UNSEEN).order_by("-created_at", "-pk")[: limit + 1])
    found = page[:limit]
    following = cursors.after(found[-1], question) if len(page) > limit else None
    return {"items": [one.as_dict() for one in reading.overviews(found)], "next_cursor": following}


def page_size(limit: int | None) -> int:
    """How many entries a page has, as requested and as is allowed."""
    allowed = options.current()
    return min(limit or allowed.PAGE_SIZE, allowed.MAX_PAGE_SIZE)


def _filtered(runs: RunQuerySet, filters: Filters) -> RunQuerySet:
    given = {
        "name__in": filters.name,
        "status__in": filters.status,
        "workflow_id": filters.workflow_id,
        "queue": filters.queue,
        "created_at__gt": filters.created_after,
        "created_at__lt": filters.created_before,
    }
    runs = runs.filter(**{lookup: value for lookup, value in given.items() if value})
    for one in filters.attribute:
        name, value = _attribute(one)
        runs = runs.with_attributes(**{f"{name}__exact": value})
    return runs


def _attribute(text: str) -> tuple[str, Any]:
    name, colon, value = text.partition(":")
    if not colon or not name.isprintable() or not value.isprintable():
        raise Problem(422, "unfit-request", f"A filter by attribute is name:value, not {text!r}.")
    try:
        return name, msgspec.json.decode(value.encode())
    except (msgspec.DecodeError, UnicodeError):
        return name, value


@router.get(
    "/workflows/{path:workflow_id}/status",
    response=schemas.WorkflowStatus,
    operation_id="get_status",
    url_name="status",
)
def status(request: HttpRequest, workflow_id: str) -> Any:
    """How the latest run of a workflow is. With a cache of statuses it may be a few seconds old."""
    known = status_cache.recall(workflow_id) if scope.sees_all() else None
    if known is not None and scope.is_in_api(known.name, known.version):
        scope.permit(request, "read")
        return shown(request, reading.status_from(known))
    since, run = time.monotonic(), scope.find(request, workflow_id, action="read")
    snapshot = snapshots.of(run)
    if scope.sees_all():
        status_cache.remember(snapshot, since=since)
    return shown(request, reading.status_from(snapshot))


def status_of(request: HttpRequest, run: WorkflowRun) -> dict[str, Any]:
    """How a run is, as far as this requester may know."""
    return shown(request, reading.status_of(run))


def shown(request: HttpRequest, status: reading.WorkflowStatus) -> dict[str, Any]:
    """A status, as far as this requester may know it."""
    return status.as_dict(internal=scope.may(request, scope.INTERNAL))


@router.get(
    "/workflows/{path:workflow_id}/history",
    response=schemas.HistoryPage,
    operation_id="get_history",
)
def history(
    request: HttpRequest,
    workflow_id: str,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int | None, Query(ge=1)] = None,
) -> Any:
    """The events of the latest run of a workflow, in order: what and when, and for staff with what."""
    run = scope.find(request, workflow_id, action="read")
    internal, limit = scope.may(request, scope.INTERNAL), page_size(limit)
    page = reading.history_page(run.pk, after=after, limit=limit + 1)
    events = [
        {
            "sequence": one.sequence,
            "type": one.type,
            "time": one.time,
            "data": reading.plain_data(one) if internal else None,
        }
        for one in page[:limit]
    ]
    return {
        "workflow_id": run.workflow_id,
        "run_id": run.pk,
        "items": events,
        "next_after": page[limit - 1].sequence if len(page) > limit else None,
    }
