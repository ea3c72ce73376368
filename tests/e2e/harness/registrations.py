"""The worker rows of a process: each time that it registers it gets another id."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from django.db.models import F, QuerySet

from django_durable.models import ActivityTask, Dispatch, Worker


class Holding(NamedTuple):
    """What a worker has at one moment: the epoch of each of its chains, and how many tasks."""

    chains: dict[UUID, int]
    tasks: int


def current(pid: int) -> int | None:
    """The id under which a process works now."""
    return _of(pid).filter(dead=False).values_list("pk", flat=True).order_by("-pk").first()


def later(pid: int, than: int) -> Worker | None:
    """The registration that followed ``than``."""
    return _of(pid).filter(pk__gt=than).order_by("pk").first()


def _of(pid: int) -> QuerySet[Worker]:
    return Worker.objects.filter(name__endswith=f":{pid}")


def is_dead(worker: int) -> bool:
    return Worker.objects.filter(pk=worker, dead=True).exists()


def holding(worker: int) -> Holding:
    chains = dict(Dispatch.objects.filter(owner=worker).values_list("pk", "epoch"))
    return Holding(chains, ActivityTask.objects.filter(worker=worker).count())


def declared_dead() -> int:
    """How many workers have been declared dead, or have retired."""
    return Worker.objects.filter(dead=True).count()


def declared_dead_alive() -> int:
    """The same without ids that no process knows: who gets no answer to its registration registers once more."""
    return Worker.objects.filter(dead=True, heartbeat_at__gt=F("started_at")).count()
