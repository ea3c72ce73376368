"""The root of our admin pages: nothing can be added, changed or deleted, and all is read from our database."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from django_durable.store import clock, database


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows carry ``now``, the database's clock: ages must not depend on the clock of the web server."""

    actions: Any = None
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each would count the whole table

    class Media:
        css = {"all": ["django_durable/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        timed: QuerySet[Any] = rows.using(database.alias()).annotate(now=clock.now())
        return timed

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
