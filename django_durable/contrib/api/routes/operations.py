"""What runs workflows: queues, workers, and whether all is well. For operators."""

from __future__ import annotations

import dataclasses
from typing import Any

from django.http import HttpRequest
from ninja import Router, Status

from django_durable.contrib.api import schemas, scope
from django_durable.models import Worker
from django_durable.store import backlog, leases

router = Router(tags=["operations"])


@router.get("/queues", response=schemas.QueueList, operation_id="list_queues")
def queues(request: HttpRequest) -> Any:
    """What waits for workers, and for how long."""
    scope.permit(request, "queues")
    return {"items": [dataclasses.asdict(one) for one in backlog.read()]}


@router.get("/workers", response=schemas.WorkerList, operation_id="list_workers")
def workers(request: HttpRequest) -> Any:
    """The workers that are alive, the latest first."""
    scope.permit(request, "workers")
    return {"items": [_worker(one) for one in leases.holders()]}


@router.get("/health", response={200: schemas.Health, 503: schemas.Health}, operation_id="get_health")
def health(request: HttpRequest) -> Any:
    """200 if the database answers and a worker is alive to get things done, else 503."""
    scope.permit(request, "health")
    count = len(leases.holders())
    return Status(200 if count else 503, {"status": "ok" if count else "no-workers", "workers": count})


def _worker(row: Worker) -> dict[str, Any]:
    shown = {name: getattr(row, name) for name in schemas.WorkerStatus.model_fields}
    return shown | {"queues": row.queues.splitlines()}
