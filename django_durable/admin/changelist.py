"""The list of runs, at a million of them: light rows, and a count that knows when to stop."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Exists, OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.functional import cached_property

from django_durable.models import Dispatch

HEAVY = ("input", "result", "failure", "blocked")
"""Columns of any size, which the list does not show."""
COUNT_LIMIT = 10_000


class CappedPaginator(Paginator):
    """Counts to ``COUNT_LIMIT`` and no further: whoever wants to see more narrows the list."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]  # the admin gives querysets only
        return rows.order_by().values("pk")[:COUNT_LIMIT].count()

    @cached_property
    def is_capped(self) -> bool:
        """Whether there may be more than was counted."""
        return self.count >= COUNT_LIMIT


class RunChangeList(ChangeList):
    """Rows without payloads, and with what their dispatch rows know of them."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        runs: QuerySet[Any] = super().get_queryset(request, exclude_parameters)
        dispatch = Dispatch.objects.filter(chain_id=OuterRef("chain_id"), run_id=OuterRef("pk"))
        shown: QuerySet[Any] = runs.defer(*HEAVY).annotate(
            pending=Exists(dispatch.filter(started_at__isnull=True)), begun_at=Subquery(dispatch.values("started_at"))
        )
        return shown
