"""Where the world fulfils callbacks: one POST each, with a JSON value."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps

import msgspec
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from django_durable import conf
from django_durable.client import completing, tokens
from django_durable.exceptions import AlreadyCompleted, InvalidToken, PayloadError, WorkflowClosed, WorkflowNotFound

View = Callable[[HttpRequest, str], HttpResponse]


class TooLarge(Exception):
    """The body is longer than ``CALLBACK_MAX_BYTES``."""


_ANSWERS: tuple[tuple[type[Exception], int, str], ...] = (  # the first that fits
    (InvalidToken, 404, "unknown"),
    (WorkflowNotFound, 404, "unknown"),
    (AlreadyCompleted, 409, "already answered"),
    (WorkflowClosed, 410, "gone"),
    (TooLarge, 413, "too large"),
    (RequestDataTooBig, 413, "too large"),
    (PayloadError, 400, "not a JSON value"),
)


def _constant(view: View) -> View:
    """Answers say what to do, and nothing about workflows."""

    @wraps(view)
    def answer(request: HttpRequest, token: str) -> HttpResponse:
        try:
            return view(request, token)
        except tuple(kind for kind, _, _ in _ANSWERS) as error:
            status, words = next((status, words) for kind, status, words in _ANSWERS if isinstance(error, kind))
            return JsonResponse({"status": words}, status=status)

    return answer


@csrf_exempt
@never_cache
@require_POST
@_constant
def callback(request: HttpRequest, token: str) -> HttpResponse:
    """Fulfil the callback of ``token`` with the JSON value in the body; none is null."""
    place = tokens.read(token)
    if place.expires is not None and place.expires < time.time():
        raise WorkflowClosed("expired")
    completing.complete_activity(token, _value(_body(request)))
    return JsonResponse({"status": "accepted"})


def _body(request: HttpRequest) -> bytes:
    limit = conf.current().CALLBACK_MAX_BYTES
    if int(request.META.get("CONTENT_LENGTH") or 0) > limit:
        raise TooLarge
    body = request.read(limit + 1)
    if len(body) > limit:
        raise TooLarge
    return body


def _value(body: bytes) -> object:
    if not body.strip():
        return None
    try:
        value: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError("The body is not JSON.") from error
    return value
