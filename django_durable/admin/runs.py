"""Runs: their list, and a page for each."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from django_durable.admin import acting, filters, pages, times
from django_durable.admin.acting import ActingAdmin
from django_durable.admin.badges import badge
from django_durable.admin.changelist import HEAVY, CappedPaginator, RunChangeList
from django_durable.admin.readonly import ReadOnlyAdmin
from django_durable.history.status import OPEN, Status


class WorkflowRunAdmin(ActingAdmin, ReadOnlyAdmin):
    actions = acting.actions()
    # No date_hierarchy: it reads every row to find which years there are.
    list_display = ["workflow_id", "name", "state", "queue", "age", "duration"]
    list_filter = [filters.StatusFilter, filters.NameFilter, filters.QueueFilter, "created_at"]
    search_fields = ["workflow_id", "name"]
    search_help_text = "A part of a workflow id or name, or a whole run id."
    sortable_by = ["workflow_id", "name", "age"]
    list_per_page = 50
    paginator = CappedPaginator
    fields = ()  # the run's page has a template of its own

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RunChangeList]:
        return RunChangeList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Payloads are read on a run's page, not guessed letter by letter through the address of the list."""
        return lookup.partition("__")[0] not in HEAVY and super().lookup_allowed(lookup, value, request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        try:
            run_id = UUID(search_term)
        except ValueError:
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(Q(pk=run_id) | Q(chain_id=run_id) | Q(workflow_id=search_term)), False

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        page = pages.page_of(obj, after=pages.position(request.GET.get("after")))
        context |= {"title": "Workflow run", "page": page, "buttons": self.buttons_of(request, obj)}
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description="status")
    def state(self, run: Any) -> SafeString:
        return badge(Status.PENDING if run.pending and run.status in OPEN else run.status)

    @admin.display(description="age", ordering="created_at")
    def age(self, run: Any) -> SafeString:
        return times.age(run.created_at, run.now)

    @admin.display(description="duration", empty_value="")
    def duration(self, run: Any) -> str | None:
        begun = run.started_at or run.begun_at
        if begun is None:
            return None
        return times.duration((run.closed_at or run.now) - begun)
