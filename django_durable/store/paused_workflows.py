"""Workflows, by name, whose runs no worker takes until somebody lets them go on: a tool for deploys."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Q, QuerySet

from django_durable.models import PausedWorkflow
from django_durable.querysets import DispatchQuerySet
from django_durable.store import clock, database, dispatch, locks


def rows() -> QuerySet[PausedWorkflow]:
    return PausedWorkflow.objects.using(database.alias())


def names() -> frozenset[str]:
    """The names of the workflows that are paused."""
    return frozenset(rows().values_list("name", flat=True))


def add(name: str, reason: str) -> bool:
    """Pause a workflow, in the caller's transaction. False: it is paused already."""
    _, added = rows().get_or_create(name=name, defaults={"reason": reason, "paused_at": clock.read()})
    return added


def remove(name: str) -> bool:
    """Let a workflow go on, in the caller's transaction. False: it is not paused."""
    removed, _ = rows().filter(name=name).delete()
    if removed:
        soon = clock.plus(clock.now(), dispatch.NO_WORKER_PAUSE + timedelta(seconds=1))
        pushed_back = chains_of(name).filter(owner__isnull=True, hold__isnull=True, wakeup_at__lte=soon)
        found = locks.to_change(locks.exactly(pushed_back)).values_list("pk", flat=True)
        dispatch.make_due(list(found))
    return bool(removed)


def queues_of(name: str) -> list[str]:
    """Queues in which something of this workflow waits."""
    return list(chains_of(name).values_list("queue", flat=True).distinct())


def chains_of(name: str) -> DispatchQuerySet:
    """The open chains of a workflow, of all its versions."""
    return dispatch.rows().filter(Q(definition=name) | Q(definition__startswith=f"{name}\t"))
