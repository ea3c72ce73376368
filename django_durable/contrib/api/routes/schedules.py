"""Schedules: made, looked at, changed, acted on and deleted. For operators."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from ninja import Query, Router

from django_durable.client import ScheduleHandle, create_schedule, get_schedule
from django_durable.client import schedule_handle as schedule_handles
from django_durable.contrib.api import schemas, scope, starting
from django_durable.contrib.api.problems import Problem
from django_durable.contrib.api.routes.workflows import page_size
from django_durable.contrib.api.schemas import Name
from django_durable.definitions.schedule import Schedule
from django_durable.exceptions import ScheduleNotFound
from django_durable.store import schedules

router = Router(tags=["schedules"])

UPCOMING = 5
SECONDS = "_seconds"


@router.post("/schedules", response={201: schemas.ScheduleDetails}, operation_id="create_schedule")
def create(request: HttpRequest, response: HttpResponse, body: schemas.CreateScheduleRequest) -> Any:
    """Start a workflow again and again. What it starts is stamped, or refused, as this requester's own start is."""
    scope.permit(request, "schedules")
    scope.permit(request, "start")
    args, kwargs = tuple(body.args), body.kwargs
    definition = scope.definition(body.workflow)
    if body.label is not None:
        definition = definition.using(label=body.label)
    definition = starting.stamped(request, definition, args, kwargs)
    spec = Schedule(**_fields(body), paused=body.paused, note=body.note)
    try:
        handle = create_schedule(body.name, spec, definition, args, kwargs)
    except TypeError as error:  # a call that Python would refuse as well
        raise Problem(422, "unfit-arguments", str(error)) from error
    response["Location"] = reverse(f"{request.resolver_match.namespace}:schedule", args=[handle.name])  # type: ignore[union-attr]
    return _details(handle)


@router.get("/schedules", response=schemas.SchedulePage, operation_id="list_schedules")
def list_schedules(
    request: HttpRequest,
    after: Annotated[Name | None, Query()] = None,
    limit: Annotated[int | None, Query(ge=1)] = None,
) -> Any:
    """Schedules of workflows that are in the API, by name."""
    scope.permit(request, "schedules")
    rows = schedules.rows().filter(definition__in=scope.names()).order_by("name")
    if after is not None:
        rows = rows.filter(name__gt=after)
    size = page_size(limit)
    page = list(rows[: size + 1])
    items = [_shown(schedule_handles.status_of(row)) for row in page[:size]]
    return {"items": items, "next_after": page[size - 1].name if len(page) > size else None}


@router.get(
    "/schedules/{path:name}/status", response=schemas.ScheduleDetails, operation_id="get_schedule", url_name="schedule"
)
def schedule(request: HttpRequest, name: str) -> Any:
    """How a schedule is, and when it is next to start something."""
    return _details(_schedule(request, name))


@router.post("/schedules/{path:name}/pause", response=schemas.ScheduleDetails, operation_id="pause_schedule")
def pause(request: HttpRequest, name: str, body: schemas.ScheduleRequest) -> Any:
    """Start nothing more until it is resumed."""
    handle = _schedule(request, name)
    handle.pause(body.note)
    return _details(handle)


@router.post("/schedules/{path:name}/resume", response=schemas.ScheduleDetails, operation_id="resume_schedule")
def resume(request: HttpRequest, name: str, body: schemas.ScheduleRequest) -> Any:
    """Go on with the next tick from now."""
    handle = _schedule(request, name)
    handle.resume(body.note)
    return _details(handle)


@router.post("/schedules/{path:name}/trigger", response={202: schemas.ScheduleDetails}, operation_id="trigger_schedule")
def trigger(request: HttpRequest, name: str) -> Any:
    """Start a run now, beside those that the schedule says."""
    handle = _schedule(request, name)
    handle.trigger()
    return _details(handle)


@router.post("/schedules/{path:name}/update", response=schemas.ScheduleDetails, operation_id="update_schedule")
def update(request: HttpRequest, name: str, body: schemas.UpdateScheduleRequest) -> Any:
    """Change when it starts something; what is not given stays as it is. Runs that it has started go on."""
    handle = _schedule(request, name)
    handle.update(**_fields(body))
    return _details(handle)


@router.post("/schedules/{path:name}/backfill", response={202: schemas.Backfilled}, operation_id="backfill_schedule")
def backfill(request: HttpRequest, name: str, body: schemas.BackfillRequest) -> Any:
    """Start a run for every tick of a stretch of time, unless that tick had one."""
    handle = _schedule(request, name)
    try:
        return {"name": name, "ticks": handle.backfill(body.start, body.end, body.overlap)}
    except ValueError as error:  # too many at a time
        raise Problem(422, "unfit-value", str(error)) from error


@router.post("/schedules/{path:name}/delete", response=schemas.ScheduleName, operation_id="delete_schedule")
def delete(request: HttpRequest, name: str) -> Any:
    """Forget it. Runs that it has started go on."""
    _schedule(request, name).delete()
    return {"name": name}


def _fields(body: schemas.ScheduleTimes) -> dict[str, Any]:
    """What a request says about the times of a schedule, as a ``Schedule`` has it."""
    given = body.model_dump(include=set(schemas.ScheduleTimes.model_fields), exclude_unset=True)
    return dict(_field(name, value) for name, value in given.items())


def _field(name: str, value: Any) -> tuple[str, Any]:
    if name.endswith(SECONDS):
        return name.removesuffix(SECONDS), None if value is None else timedelta(seconds=value)
    return name, value


def _schedule(request: HttpRequest, name: str) -> ScheduleHandle:
    scope.permit(request, "schedules")
    if not name.isprintable():
        raise ScheduleNotFound(name)
    handle = get_schedule(name)
    if handle.status().workflow not in scope.names():
        raise ScheduleNotFound(name)
    return handle


def _details(handle: ScheduleHandle) -> dict[str, Any]:
    status = handle.status()
    spec = status.schedule
    return _shown(status) | {
        "upcoming": handle.upcoming(UPCOMING),
        "overlap": spec.overlap,
        "catch_up_seconds": spec.catch_up.total_seconds(),
        "jitter_seconds": spec.jitter.total_seconds(),
        "start_at": spec.start_at,
        "end_at": spec.end_at,
        "max_runs": spec.max_runs,
    }


def _shown(status: schedule_handles.ScheduleStatus) -> dict[str, Any]:
    spec = status.schedule
    shown = {name: getattr(status, name) for name in schemas.ScheduleStatus.model_fields if hasattr(status, name)}
    return shown | {
        "cron": spec.expression,
        "every_seconds": spec.every.total_seconds() if spec.every is not None else None,
        "time_zone": spec.time_zone,
    }
