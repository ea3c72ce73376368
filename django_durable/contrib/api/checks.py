"""System checks of the API: options that cannot work, and an API that is mounted and open to everybody."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.urls import URLResolver, get_resolver
from django.utils.module_loading import import_string

from django_durable.contrib.api import options

URLS = "django_durable.contrib.api.urls"


def check_options(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.E301: options of the API that do not exist or could not work."""
    return [
        Error(f'DURABLE["API"]: {problem}', hint="docs/http-api.md lists the options.", id="durable.E301")
        for problem in _problems(_declared())
    ]


def check_guard(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.E302: outside of DEBUG, the API without anybody who authenticates its requests."""
    if settings.DEBUG or _declared().get("AUTH") or not is_mounted():
        return []
    return [
        Error(
            'The HTTP API is in the URLs, and DURABLE["API"]["AUTH"] names nobody who authenticates its requests: it '
            "answers 403 to all of them.",
            hint='Name a class of django-ninja or a function: DURABLE = {"API": {"AUTH": "shop.api.Key"}}.',
            id="durable.E302",
        )
    ]


ALL = (check_options, check_guard)


def is_mounted() -> bool:
    """Whether the project's URLs include those of the API."""
    return bool(getattr(settings, "ROOT_URLCONF", None)) and _includes(get_resolver().url_patterns)


def _includes(patterns: Iterable[Any]) -> bool:
    return any(
        getattr(one.urlconf_name, "__name__", one.urlconf_name) == URLS or _includes(one.url_patterns)
        for one in patterns
        if isinstance(one, URLResolver)
    )


def _declared() -> Mapping[str, Any]:
    durable = getattr(settings, "DURABLE", None)
    declared = durable.get("API") if isinstance(durable, dict) else None
    return declared if isinstance(declared, Mapping) else {}  # else durable.E002


def _problems(declared: Mapping[str, Any]) -> Iterable[str]:
    for name, value in declared.items():
        if name not in options.NAMES:
            near = difflib.get_close_matches(str(name).upper(), options.NAMES, n=1)
            yield f"there is no option {name!r}." + (f" Did you mean {near[0]!r}?" if near else "")
        elif not EXPECTED[name][1](value):
            yield f"{name} is {value!r}; it must be {EXPECTED[name][0]}."
        elif name in ("AUTH", *options.HOOKS):
            yield from _unloadable(name, [value] if isinstance(value, str) else value or ())


def _unloadable(name: str, paths: Iterable[str]) -> Iterable[str]:
    for path in paths:
        try:
            found = import_string(path)
        except ImportError as error:
            yield f"{name} cannot be loaded: {error}"
            continue
        if not callable(found):
            yield f"{name} names {path!r}, which cannot be called."


def _is_path(value: Any) -> bool:
    return value is None or (isinstance(value, str) and bool(value))


def _are_paths(value: Any) -> bool:
    return _is_path(value) or (isinstance(value, list | tuple) and all(one and isinstance(one, str) for one in value))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


_PATH = ("a dotted path or None", _is_path)
_COUNT = ("a whole number of at least 1", _is_count)
_SECONDS = ("a number of seconds above 0", _is_positive)

EXPECTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "AUTH": ("a dotted path, a list of such, or None", _are_paths),
    "FILTER": _PATH,
    "START": _PATH,
    "PERMISSION": _PATH,
    "DOCS": ("True or False", lambda value: isinstance(value, bool)),
    "MAX_BODY_BYTES": _COUNT,
    "PAGE_SIZE": _COUNT,
    "MAX_PAGE_SIZE": _COUNT,
    "MAX_WAIT_SECONDS": _SECONDS,
    "STREAM_SECONDS": _SECONDS,
    "QUERY_SECONDS": _SECONDS,
    "QUERY_EVENTS": _COUNT,
    "QUERY_CONCURRENCY": _COUNT,
}
"""What each option must be, in words and as a test."""
