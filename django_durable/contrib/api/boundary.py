"""What holds for every address of the API before and after django-ninja has its turn."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db import connections, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.urls import URLPattern

from django_durable.contrib.api import gate, options, problems
from django_durable.contrib.api.problems import Problem

View = Callable[..., Any]


def guarded(pattern: URLPattern, *, docs: bool = False) -> URLPattern:
    """The same address with its view behind the boundary. ``docs``: it tells about the API, and can be turned off."""
    view = _outside_transactions(_bounded(pattern.callback, docs=docs))
    return URLPattern(pattern.pattern, view, pattern.default_args, pattern.name)


def not_found(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    """The answer of every address below the API that is none of its own."""
    gate.refuse_unguarded()
    raise Http404


def _bounded(view: View, *, docs: bool) -> View:
    if iscoroutinefunction(view):

        async def bounded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                _check(request, docs)
                return _finished(request, await view(request, *args, **kwargs))
            except Exception as error:
                return problems.answer(request, error)

        markcoroutinefunction(bounded)
    else:

        def bounded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[misc]
            try:
                _check(request, docs)
                return _finished(request, view(request, *args, **kwargs))
            except Exception as error:
                return problems.answer(request, error)

    # django-ninja looks for forged requests itself where it matters: in authentication by cookie.
    bounded.csrf_exempt = True  # type: ignore[attr-defined]
    functools.update_wrapper(bounded, getattr(view, "func", view))
    return bounded


def _check(request: HttpRequest, docs: bool) -> None:
    gate.refuse_unguarded()
    if docs and not options.current().DOCS:
        raise Http404
    limit = options.current().MAX_BODY_BYTES
    if int(request.META.get("CONTENT_LENGTH") or 0) > limit or len(request.body) > limit:
        raise Problem(413, "body-too-large", f"The body is longer than {limit:,} bytes.")


def _finished(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if isinstance(response, HttpResponseNotAllowed):
        allowed = response["Allow"]
        refused = Problem(405, "method-not-allowed", f"This takes {allowed}.", headers={"Allow": allowed})
        return refused.response(request)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _outside_transactions(view: View) -> View:
    """Each verb is a transaction of its own, and those that wait could not do so inside one of ATOMIC_REQUESTS."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view
