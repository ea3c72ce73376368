"""What a project says of who may do what over the HTTP API. Apart from the workflows: workers need no django-ninja."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from ninja.security import HttpBearer

from django_durable.models import WorkflowRun
from django_durable.querysets import RunQuerySet


class Key(HttpBearer):
    """``Authorization: Bearer <tenant>``, or ``staff``."""

    def authenticate(self, request: HttpRequest, token: str) -> str | None:
        return token if token in ("red", "blue", "staff") else None


def by_session(request: HttpRequest) -> Any:
    """A function that takes whoever is logged in."""
    return request.user if request.user.is_authenticated else None


def own_runs(request: HttpRequest, runs: RunQuerySet) -> RunQuerySet:
    """Each tenant sees its own."""
    who = request.auth  # type: ignore[attr-defined]
    return runs if who == "staff" else runs.with_attributes(tenant=who)


def stamp(request: HttpRequest, definition: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Marks a run with its tenant; large orders are refused."""
    if args and args[0] == 1_000:
        raise PermissionDenied("An order has at most 999 lines.")
    return definition.using(attributes={"tenant": request.auth})  # type: ignore[attr-defined]


def staff_only(request: HttpRequest, action: str) -> bool | None:
    """Staff may do everything; the others what is theirs, but for pauses."""
    if request.auth == "staff":  # type: ignore[attr-defined]
        return True
    return False if action == "pause" else None


def no_starts(request: HttpRequest, action: str) -> bool:
    """Everything but starts."""
    return action != "start"


def fails(request: HttpRequest, runs: RunQuerySet) -> RunQuerySet:
    """A filter with a fault."""
    return runs.filter(pk__in=[WorkflowRun.objects.count() // 0])
