"""The settings of the API: the dict ``DURABLE["API"]``, read when used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from django.utils.module_loading import import_string

from django_durable import conf


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOptions:
    """All options with their defaults. Durations are seconds, sizes are bytes."""

    AUTH: str | Sequence[str] | None = None
    """Dotted paths of who authenticates: functions, or classes of django-ninja; the first that says yes counts."""
    FILTER: str | None = None
    """Dotted path of ``(request, queryset) -> queryset``: the runs that this requester may see and act on."""
    START: str | None = None
    """Dotted path of ``(request, definition, args, kwargs) -> definition``: may refuse a start, or stamp its run."""
    PERMISSION: str | None = None
    """Dotted path of ``(request, action) -> bool | None``: what this requester may do; None: the action's default."""
    DOCS: bool = True
    """Serve ``docs`` and ``openapi.json``."""
    MAX_BODY_BYTES: int = 1024 * 1024
    """Longest body of a request."""
    PAGE_SIZE: int = 50
    """Entries of a page unless the request says otherwise."""
    MAX_PAGE_SIZE: int = 200
    """Entries of a page at most."""
    MAX_WAIT_SECONDS: float = 30.0
    """How long a request may wait for a result or a reply."""
    STREAM_SECONDS: float = 60.0
    """How long one stream of events lasts; clients come back by themselves."""
    QUERY_SECONDS: float = 5.0
    """How long the replay for one query may take."""
    QUERY_EVENTS: int = 10_000
    """Longest history that is replayed for a query."""
    QUERY_CONCURRENCY: int = 4
    """Queries that one process answers at a time."""


NAMES = frozenset(field.name for field in fields(ApiOptions))
HOOKS = ("FILTER", "START", "PERMISSION")


def current() -> ApiOptions:
    """The options as they are now. Unknown names are left to the system checks."""
    declared: Mapping[str, Any] = conf.current().API or {}
    return ApiOptions(**{name: value for name, value in declared.items() if name in NAMES})


def auth_paths() -> list[str]:
    """The dotted paths of ``AUTH``; none: nobody has said who may come in."""
    declared = current().AUTH
    return [declared] if isinstance(declared, str) else list(declared or ())


def hook(name: str) -> Callable[..., Any] | None:
    """The project's own function for one of ``HOOKS``. Raises ``ImportError``."""
    path = getattr(current(), name)
    function: Callable[..., Any] | None = import_string(path) if path else None
    return function
