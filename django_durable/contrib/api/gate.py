"""Who may come in: the project's own authentication, and nobody while there is none."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.http import HttpRequest
from django.utils.module_loading import import_string
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from django_durable.contrib.api import options
from django_durable.contrib.api.problems import Problem

SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
ANYBODY = "anybody"

Authenticator = Callable[[HttpRequest], Any]


class Authentication:
    """What every operation asks first. Reads ``AUTH`` at each request, so that a change of settings counts at once."""

    def __call__(self, request: HttpRequest) -> Any:
        """Who the requester is, as the project's own class or function says. Raises ``Problem``."""
        refuse_unguarded()
        authenticators = list(map(_load, options.auth_paths()))
        if not authenticators:
            return ANYBODY
        for one in authenticators:
            who = _ask(one, request)
            if who:
                return who
        raise Problem(
            401,
            "unauthorized",
            "Say who you are: the credentials are missing, or are not known here.",
            headers={"WWW-Authenticate": _challenge(authenticators[0])},
        )

    @property
    def openapi_security_schema(self) -> dict[str, Any]:
        """How the schema tells clients to authenticate."""
        for path in options.auth_paths():
            declared = getattr(_load(path), "openapi_security_schema", None)
            if declared:
                return dict(declared)
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}


def refuse_unguarded() -> None:
    """Outside of DEBUG the API is closed until ``AUTH`` says who may come in, whatever checks were silenced."""
    if not settings.DEBUG and not options.auth_paths():
        raise Problem(
            403,
            "not-configured",
            'This API is closed: DURABLE["API"]["AUTH"] names nobody who authenticates its requests.',
        )


def _load(path: str) -> Authenticator:
    """A class of django-ninja is instantiated; what is there already, or a function, is taken as it is."""
    found: Any = import_string(path)
    if inspect.isclass(found):
        found = found()
    authenticator: Authenticator = found
    return authenticator


def _ask(authenticator: Authenticator, request: HttpRequest) -> Any:
    who = authenticator(request)
    if inspect.iscoroutine(who):
        who = async_to_sync(_await)(who)
    if who and not isinstance(authenticator, AuthBase):
        _refuse_forged(request)
    return who


async def _await(coroutine: Any) -> Any:
    return await coroutine


def _refuse_forged(request: HttpRequest) -> None:
    """A function may have looked at the session, and django-ninja looks for forgery in its own classes only."""
    if request.method not in SAFE and settings.SESSION_COOKIE_NAME in request.COOKIES and check_csrf(request):
        raise Problem(403, "forged", "The CSRF token is missing or wrong.")


def _challenge(authenticator: Authenticator) -> str:
    schema = getattr(authenticator, "openapi_security_schema", None) or {}
    return f'{str(schema.get("scheme", "ApiKey")).capitalize()} realm="durable"'
