"""Acts on workflows: cancel, terminate, pause, resume, retry."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router

from django_durable.contrib.api import schemas, scope

router = Router(tags=["acts"])


@router.post("/workflows/{path:workflow_id}/cancel", response=schemas.Done, operation_id="cancel_workflow")
def cancel(request: HttpRequest, workflow_id: str, body: schemas.ReasonRequest) -> Any:
    """Ask a workflow to end, so that it can clean up."""
    handle = scope.handle(request, workflow_id, action="cancel")
    return _done(workflow_id, handle.run_id, handle.cancel(body.reason))


@router.post("/workflows/{path:workflow_id}/terminate", response=schemas.Done, operation_id="terminate_workflow")
def terminate(request: HttpRequest, workflow_id: str, body: schemas.ReasonRequest) -> Any:
    """End a workflow at once; none of its code runs any more."""
    handle = scope.handle(request, workflow_id, action="terminate")
    return _done(workflow_id, handle.run_id, handle.terminate(body.reason))


@router.post("/workflows/{path:workflow_id}/pause", response=schemas.Done, operation_id="pause_workflow")
def pause(request: HttpRequest, workflow_id: str, body: schemas.ReasonRequest) -> Any:
    """Let a workflow rest until it is resumed: messages are kept for it."""
    handle = scope.handle(request, workflow_id, action="pause")
    return _done(workflow_id, handle.run_id, handle.pause(body.reason))


@router.post("/workflows/{path:workflow_id}/resume", response=schemas.Done, operation_id="resume_workflow")
def resume(request: HttpRequest, workflow_id: str) -> Any:
    """Let a paused workflow go on."""
    handle = scope.handle(request, workflow_id, action="resume")
    return _done(workflow_id, handle.run_id, handle.resume())


@router.post("/workflows/{path:workflow_id}/retry", response=schemas.Done, operation_id="retry_workflow")
def retry(request: HttpRequest, workflow_id: str, body: schemas.ReasonRequest) -> Any:
    """Let a workflow that has failed or timed out go on just before its failure. The answer names the new run."""
    handle = scope.handle(request, workflow_id, action="retry")
    return _done(workflow_id, handle.retry_failed(body.reason).run_id, True)


def _done(workflow_id: str, run_id: UUID, done: bool) -> dict[str, Any]:
    return {"workflow_id": workflow_id, "run_id": run_id, "done": done}
