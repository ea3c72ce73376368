"""Readable filters over runs and dispatch rows."""

from __future__ import annotations

import functools
import operator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from django.apps import apps
from django.core.exceptions import FieldError
from django.db import models
from django.db.models import Exists, OuterRef, Q

from django_durable.definitions import attributes
from django_durable.definitions.subject import subject_of
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

    def pending(self) -> Self:
        """Runs that no worker has begun. The column says ``running``: that they have begun is not written there."""
        return self.filter(self._unclaimed(), status=status.Status.RUNNING)

    def running(self) -> Self:
        """Runs that a worker has begun, and that neither rest nor wait for other code."""
        return self.filter(~self._unclaimed(), status=status.Status.RUNNING)

    def _unclaimed(self) -> Exists:
        dispatch = apps.get_model("durable", "Dispatch").objects.using(self.db)
        return Exists(dispatch.filter(chain_id=OuterRef("chain_id"), run_id=OuterRef("pk"), started_at=None))

    def failed(self) -> Self:
        """Runs whose code raised."""
        return self.filter(status=status.Status.FAILED)

    def timed_out(self) -> Self:
        """Runs whose time was up."""
        return self.filter(status=status.Status.TIMED_OUT)

    def paused(self) -> Self:
        """Runs that rest until somebody resumes them."""
        return self.filter(status=status.Status.PAUSED)

    def named(self, *names: str) -> Self:
        """Runs of these workflows, of all their versions."""
        return self.filter(name__in=names)

    def last_of_chain(self) -> Self:
        """Runs that no other run of their chain follows: neither a retry, nor a continuation, nor a reset."""
        later = self.model._default_manager.using(self.db).filter(
            chain_id=OuterRef("chain_id"), created_at__gt=OuterRef("created_at")
        )
        return self.filter(~Exists(later))

    def closed_since(self, moment: datetime) -> Self:
        """Runs that have ended at that time or later."""
        return self.filter(closed_at__gte=moment)

    def blocked(self) -> Self:
        """Runs that wait for other code."""
        return self.filter(status=status.Status.BLOCKED)

    def for_workflow(self, workflow_id: str) -> Self:
        """All runs of a workflow id, the latest first."""
        return self.filter(workflow_id=workflow_id).order_by("-created_at", "-id")

    def for_subject(self, instance: Any) -> Self:
        """All runs that are about this row of a model, the latest first."""
        subject = subject_of(instance, owner="for_subject()")
        return self.filter(subject_type=subject.type, subject_id=subject.id).order_by("-created_at", "-id")

    def with_attributes(self, **wanted: Any) -> Self:
        """Runs whose search attributes are so: ``with_attributes(customer=7, total__gte=100)``.

        Lookups are ``exact`` (the default), ``gt``, ``gte``, ``lt``, ``lte`` and ``in``; None: not set. Raises
        ``FieldError`` for others.
        """
        found = self
        for name, value in wanted.items():
            key, _, lookup = name.rpartition("__") if "__" in name else (name, "", "exact")
            if lookup not in LOOKUPS:
                raise FieldError(f"Attributes have no lookup {lookup!r}. There are: {', '.join(LOOKUPS)}.")
            found = _having(found, key, lookup, value)
        return found


LOOKUPS = ("exact", "gt", "gte", "lt", "lte", "in")


def _having(runs: Any, key: str, lookup: str, value: Any) -> Any:
    rows = apps.get_model("durable", "RunAttribute").objects.using(runs.db).filter(key=key)
    if value is None and lookup == "exact":
        return runs.exclude(pk__in=rows.values("run_id"))
    values = list(value) if lookup == "in" else [value]
    test = "exact" if lookup == "in" else lookup
    conditions = [_condition(key, test, one) for one in values]
    if not conditions:
        return runs.none()
    return runs.filter(pk__in=rows.filter(functools.reduce(operator.or_, conditions)).values("run_id"))


def _condition(key: str, lookup: str, value: Any) -> Q:
    """On the one column that values of this type are in."""
    attribute = attributes.encode(key, value)
    ((column, indexed),) = ((name, one) for name, one in attribute.indexed._asdict().items() if one is not None)
    condition = Q(**{f"{column}__{lookup}": indexed})
    if lookup == "exact" and isinstance(attribute.plain, int) and abs(attribute.plain) > attributes.EXACT:
        condition &= Q(value=attributes.dump(attribute))  # the column cannot tell it from its neighbours
    return condition


class DispatchQuerySet(models.QuerySet["Dispatch"]):
    """``Dispatch.objects``: what the store asks about open chains."""

    def unowned(self) -> Self:
        """Chains that nobody works on and that have a time to wake up."""
        return self.filter(owner__isnull=True, wakeup_at__isnull=False)

    def owned_by(self, worker: int) -> Self:
        return self.filter(owner=worker)
