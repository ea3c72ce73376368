"""Filters of the list of runs. None of them reads the table of runs to find its choices."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest

from django_durable import conf
from django_durable.definitions.registry import registry
from django_durable.history.status import Status
from django_durable.models import Worker
from django_durable.store import database


class StatusFilter(admin.SimpleListFilter):
    """By status. A run is pending until it is claimed for the first time, which its dispatch row tells."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(status.value, status.value.replace("_", " ")) for status in Status]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if value is None:
            return queryset
        if value not in set(Status):
            raise IncorrectLookupParameters
        if value == Status.PENDING:
            return queryset.pending()
        return queryset.running() if value == Status.RUNNING else queryset.filter(status=value)


class TextFilter(admin.SimpleListFilter):
    """By the exact value of a column; one that is in the address but not among the choices counts as well."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        selected = request.GET.get(str(self.parameter_name))
        return [(value, value) for value in sorted({*self.known(), *([selected] if selected else [])})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        if "\x00" in value:  # which PostgreSQL refuses
            raise IncorrectLookupParameters
        return queryset.filter(**{str(self.parameter_name): value})

    def known(self) -> set[str]:
        """The values to choose from."""
        raise NotImplementedError


class NameFilter(TextFilter):
    """By definition: those that this process knows. Runs of one that is gone are found by searching."""

    title = "name"
    parameter_name = "name"

    def known(self) -> set[str]:
        return {definition.name for definition in registry.workflows()}


class QueueFilter(TextFilter):
    """By queue: those of the settings, of this process's definitions and of the workers."""

    title = "queue"
    parameter_name = "queue"

    def known(self) -> set[str]:
        served = Worker.objects.using(database.alias()).filter(dead=False).values_list("queues", flat=True)
        declared = {definition.options.queue for definition in registry.workflows()}
        return declared.union(conf.current().QUEUES, *(queues.split("\n") for queues in served))
