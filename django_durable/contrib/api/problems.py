"""Errors as RFC 9457 has them: ``application/problem+json``, whatever went wrong and wherever."""

from __future__ import annotations

import http
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import ninja.errors
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.core.signals import got_request_exception
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI

from django_durable import exceptions

logger = logging.getLogger("django_durable.api")

CONTENT_TYPE = "application/problem+json"
FAULTS = (500, 503)  # of this server, which its log and whoever listens for faults must learn of
TYPES = "urn:django-durable:problem:"


class Problem(Exception):
    """An answer that is an error. ``code`` ends its ``type``, ``more`` are further members of the document."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.more = more

    def response(self, request: HttpRequest) -> HttpResponse:
        document = {
            "type": TYPES + self.code,
            "title": self.code.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "instance": request.path,
            **self.more,
        }
        body = msgspec.json.encode(document, enc_hook=str)
        response = HttpResponse(body, status=self.status, content_type=CONTENT_TYPE)
        for name, value in self.headers.items():
            response[name] = value
        return response


class _Kind(NamedTuple):
    status: int
    code: str
    detail: str = ""  # instead of the error's own message, where that is not for everybody


KINDS: tuple[tuple[type[Exception], _Kind], ...] = (  # the first that fits
    (exceptions.WorkflowNotFound, _Kind(404, "workflow-not-found")),
    (exceptions.ScheduleNotFound, _Kind(404, "schedule-not-found", "There is no such schedule.")),
    (
        exceptions.ScheduleAlreadyExists,
        _Kind(409, "schedule-already-exists", "There is a schedule of that name already."),
    ),
    (exceptions.WorkflowClosed, _Kind(409, "workflow-closed")),
    (exceptions.WorkflowAlreadyStarted, _Kind(409, "workflow-already-started")),
    (exceptions.KeyReused, _Kind(422, "key-reused")),
    (exceptions.UpdateRejected, _Kind(422, "update-rejected")),
    (exceptions.UpdateFailed, _Kind(422, "update-failed")),
    (
        exceptions.QueryTooExpensive,
        _Kind(504, "query-too-slow", "The query took too long and was stopped. Read status, progress or attributes."),
    ),
    (exceptions.QueryFailed, _Kind(422, "query-failed")),
    (exceptions.UnsupportedInWorkflow, _Kind(422, "query-failed")),
    (
        exceptions.NonDeterminismError,
        _Kind(409, "query-impossible", "The code that answers is not the code that this run was made with."),
    ),
    (
        exceptions.UnknownDefinition,
        _Kind(409, "query-impossible", "The code that answers does not have this version of the workflow."),
    ),
    (
        exceptions.PayloadUnreadable,
        _Kind(409, "unreadable", "What is stored cannot be read here: a key or a codec is missing."),
    ),
    (exceptions.PayloadError, _Kind(422, "unfit-value")),
    (exceptions.DefinitionError, _Kind(422, "unfit-value")),
    (exceptions.WouldWaitForever, _Kind(500, "internal-error", "The API must not be called inside a transaction.")),
    (exceptions.DurableError, _Kind(409, "conflict")),
    (OperationalError, _Kind(503, "unavailable", "The database does not answer. Try again soon.")),
    (InterfaceError, _Kind(503, "unavailable", "The database does not answer. Try again soon.")),
    (PermissionDenied, _Kind(403, "forbidden")),
    (RequestDataTooBig, _Kind(413, "body-too-large", "The body is larger than this project takes.")),
    (Http404, _Kind(404, "not-found", "There is nothing at this address.")),
)


def of(error: Exception) -> Problem | None:
    """The problem that an error is; None: it is a fault of this server."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ninja.errors.ValidationError):
        return Problem(422, "unfit-request", "The request does not fit the schema.", errors=_plain(error.errors))
    if isinstance(error, ninja.errors.HttpError):
        return _of_http(error)
    for kind, known in KINDS:
        if isinstance(error, kind):
            return Problem(known.status, known.code, known.detail or str(error) or known.code, **_more(error))
    return None


def _of_http(error: ninja.errors.HttpError) -> Problem:
    if error.status_code == 400:
        return Problem(400, "not-json", "The body is not JSON.")
    phrase = http.HTTPStatus(error.status_code).phrase
    return Problem(error.status_code, phrase.lower().replace(" ", "-"), str(error))


def _plain(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"in": list(map(str, one["loc"])), "message": one["msg"]} for one in errors]


def _more(error: Exception) -> dict[str, Any]:
    """What the errors of handlers say besides: for programs to tell them apart."""
    if isinstance(error, exceptions.UpdateRejected | exceptions.UpdateFailed):
        return {"error_type": error.type, "error_message": error.message, "data": error.data}
    if isinstance(error, exceptions.QueryFailed):
        return {"error_type": error.type}
    return {}


def answer(request: HttpRequest, error: Any) -> HttpResponse:
    """The answer to an error. A fault of this server is told to whoever listens for those, as Django does."""
    found = of(error)
    if found is None or found.status in FAULTS:
        got_request_exception.send(sender=None, request=request)
        logger.error("Internal error at %s %s", request.method, request.path, exc_info=error)
        found = found or Problem(500, "internal-error", "Something is wrong with this server; its log says what.")
    return found.response(request)


def handle_all(api: NinjaAPI) -> None:
    """Let every error inside of the API's operations be answered here."""
    for kind in (Exception, Http404, ninja.errors.HttpError, ninja.errors.ValidationError):
        api.add_exception_handler(kind, answer)
