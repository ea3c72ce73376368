"""Starts over HTTP: once for each idempotency key, as the project's hook allows, and never over somebody else's run."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.http import HttpRequest

from django_durable import propagation
from django_durable.client import WorkflowHandle, placing, starting
from django_durable.contrib.api import options, scope
from django_durable.contrib.api.problems import Problem
from django_durable.contrib.api.schemas import StartRequest
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.exceptions import DurableError, KeyReused, WorkflowAlreadyStarted
from django_durable.models import WorkflowRun
from django_durable.payloads import payload
from django_durable.store import database, identifiers

KEY_LIMIT = 255  # characters


def start(request: HttpRequest, body: StartRequest, key: str | None) -> WorkflowHandle[Any]:
    """Start what ``body`` says, or find what the same request has started before.

    A key is good for as long as its run is kept, whether that has ended or not: a repeated request never starts a
    second one. Raises ``Problem`` and what ``start_workflow`` raises, ``KeyReused`` for a key that came with another
    body before.
    """
    scope.permit(request, "start")
    digest = hashlib.sha256(msgspec.json.encode(body.model_dump(mode="json"), order="deterministic")).hexdigest()
    run_id = run_id_of(request, key) if key is not None else identifiers.uuid7()
    definition = _definition(request, body)
    if key is not None and (before := _started_before(request, run_id, digest)) is not None:
        return before
    try:
        handle = _start(request, definition, body, run_id, digest if key is not None else None)
    except DurableError:
        before = _started_before(request, run_id, digest)
        if before is None:
            raise
        return before
    if handle.run_id != run_id and not scope.visible(request).filter(pk=handle.run_id).exists():
        raise _taken(handle.workflow_id)
    return handle


def run_id_of(request: HttpRequest, key: str) -> UUID:
    """The id of the run that a key starts: the primary key of runs is what makes it come once."""
    return identifiers.derived(_who(request), key)


def _who(request: HttpRequest) -> str:
    """Keys of one requester are not those of another, where what has authenticated them gives something stable."""
    who = getattr(request, "auth", None)
    if isinstance(who, str | int):
        return str(who)
    for name in ("pk", "id"):
        if (value := getattr(who, name, None)) is not None:
            return f"{type(who).__name__} {value}"
    return type(who).__name__


def _definition(request: HttpRequest, body: StartRequest) -> WorkflowDefinition[..., Any]:
    definition = scope.definition(body.workflow)
    if body.workflow_id is not None:
        definition = definition.using(workflow_id=body.workflow_id)
    if body.on_conflict is not None:
        definition = definition.using(on_conflict=body.on_conflict)
    if body.start_delay is not None:
        definition = definition.using(start_delay=timedelta(seconds=body.start_delay))
    if body.label is not None:
        definition = definition.using(label=body.label)
    return stamped(request, definition, tuple(body.args), body.kwargs)


def stamped(
    request: HttpRequest, definition: WorkflowDefinition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> WorkflowDefinition[..., Any]:
    """The definition with the options that the project gives this requester's starts. Raises ``Problem``."""
    hook = options.hook("START")
    if hook is None:
        return definition
    found = hook(request, definition, args, dict(kwargs))
    if not isinstance(found, WorkflowDefinition):
        raise Problem(403, "forbidden", "You may not start this.")
    return found


def _start(
    request: HttpRequest,
    definition: WorkflowDefinition[..., Any],
    body: StartRequest,
    run_id: UUID,
    digest: str | None,
) -> WorkflowHandle[Any]:
    args, kwargs = tuple(body.args), body.kwargs
    try:
        with database.writing():  # what a start replaces goes on if the start comes to nothing
            definition = _without_replacing(request, definition)
            return starting.start_workflow(definition, args, kwargs, run_id=run_id, digest=digest)
    except TypeError as error:  # a call that Python would refuse as well
        raise Problem(422, "unfit-arguments", str(error)) from error
    except WorkflowAlreadyStarted as error:
        raise _taken(error.workflow_id) from error


def _without_replacing(request: HttpRequest, definition: WorkflowDefinition[..., Any]) -> WorkflowDefinition[..., Any]:
    """A run that a start is to replace is ended here, by its own id: it must be one that the requester sees."""
    if definition.options.on_conflict != "terminate_existing":
        return definition
    taken = placing.in_the_way(definition)
    if taken is not None:
        run = scope.visible(request).filter(pk=taken).first()
        if run is None:
            raise _taken(definition.options.workflow_id or "")
        WorkflowHandle(run.workflow_id, run.pk).terminate(placing.REPLACED)
    return definition.using(on_conflict="fail")


def _started_before(request: HttpRequest, run_id: UUID, digest: str) -> WorkflowHandle[Any] | None:
    run = scope.visible(request).filter(pk=run_id).first()
    if run is None:
        return None
    if _digest_of(run) != digest:
        raise KeyReused("This Idempotency-Key came with another body before. Take a new one for another start.")
    return WorkflowHandle(run.workflow_id, run.pk)


def _digest_of(run: WorkflowRun) -> str | None:
    return propagation.digest_of(payload.load(run.headers)) if run.headers is not None else None


def _taken(workflow_id: str) -> Problem:
    return Problem(
        409,
        "workflow-already-started",
        f"The workflow id {workflow_id!r} is taken. Take another one, or on_conflict 'use_existing' if that is yours.",
    )
