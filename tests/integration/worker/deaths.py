"""Workers that are dead, as the tables show it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django_durable.client import WorkflowHandle
from django_durable.models import Dispatch, Worker
from django_durable.store import clock, fences


def past_worker(*, dead: bool = True, expired: bool = True) -> int:
    """Add a worker that once lived; returns its id."""
    now = clock.read()
    row = Worker.objects.create(
        name="gone:1",
        queues="default",
        definitions="",
        concurrency=1,
        release="0",
        started_at=now - timedelta(hours=1),
        heartbeat_at=now - timedelta(minutes=30),
        expires_at=now - timedelta(minutes=29) if expired else now + timedelta(hours=1),
        dead=dead,
    )
    fences.put_up(row.pk)
    if dead:
        fences.close([row.pk])
    return row.pk


def give_to(worker: int, *handles: WorkflowHandle[Any]) -> None:
    """As if ``worker`` had claimed these runs and done nothing with them."""
    given = Dispatch.objects.filter(pk__in=[handle.run_id for handle in handles])
    assert given.update(owner=worker, epoch=1) == len(handles)


def declare_dead(worker: int) -> None:
    assert Worker.objects.filter(pk=worker).update(dead=True)
    fences.close([worker])
