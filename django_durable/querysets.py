"""Readable filters over runs and dispatch rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.db import models

from django_durable.history import status

if TYPE_CHECKING:
    from django_durable.models import Dispatch, WorkflowRun
else:
    Dispatch = WorkflowRun = models.Model


class RunQuerySet(models.QuerySet["WorkflowRun"]):
    """``WorkflowRun.objects``: what staff and applications ask about runs."""

    def open(self) -> Self:
        """Runs that have not ended."""
        return self.filter(status__in=sorted(status.OPEN))

    def closed(self) -> Self:
        """Runs that have ended, whatever the outcome."""
        return self.filter(status__in=sorted(status.CLOSED))

    def failed(self) -> Self:
        """Runs whose code raised."""
        return self.filter(status=status.Status.FAILED)

    def blocked(self) -> Self:
        """Runs that wait for other code."""
        return self.filter(status=status.Status.BLOCKED)

    def for_workflow(self, workflow_id: str) -> Self:
        """All runs of a workflow id, the latest first."""
        return self.filter(workflow_id=workflow_id).order_by("-created_at", "-id")


class DispatchQuerySet(models.QuerySet["Dispatch"]):
    """``Dispatch.objects``: what the store asks about open chains."""

    def unowned(self) -> Self:
        """Chains that nobody works on and that have a time to wake up."""
        return self.filter(owner__isnull=True, wakeup_at__isnull=False)

    def owned_by(self, worker: int) -> Self:
        return self.filter(owner=worker)
