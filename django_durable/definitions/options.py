"""Checks that options of every kind share. A wrong option is refused where it is written, never ignored."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from django_durable.exceptions import DefinitionError

NAME_LIMIT = 255  # characters, what the tables hold
LARGEST_COUNT = 2_000_000_000  # what an integer column of every database holds
PRIORITIES = range(-100, 101)  # as in Django Tasks; higher first


def near(name: str, candidates: Iterable[str]) -> str:
    """A sentence that suggests what ``name`` may have been meant to be, or nothing."""
    matches = difflib.get_close_matches(name, list(candidates), n=3)
    return f" Did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""


def changes(before: Any, after: Any) -> dict[str, Any]:
    """The fields of ``after`` that are others than those of ``before``, a dataclass of the same kind."""
    values = ((field.name, getattr(after, field.name)) for field in fields(after))
    return {name: value for name, value in values if value is not getattr(before, name)}


def check_names(given: Iterable[str], *, known: Collection[str], owner: str) -> None:
    """Refuse options that do not exist."""
    for option in given:
        if option not in known:
            raise DefinitionError(
                f"{owner}: there is no option {option!r}.{near(option, known)} Options are: {', '.join(sorted(known))}."
            )


def check_text(value: Any, *, what: str, limit: int = NAME_LIMIT, empty: bool = False) -> None:
    """Refuse what cannot be a name: 1 to ``limit`` printable characters (0 where ``empty`` is allowed)."""
    if not isinstance(value, str):
        raise DefinitionError(f"{what} must be text, not {value!r}.")
    if not value and not empty:
        raise DefinitionError(f"{what} must not be empty.")
    if len(value) > limit:
        raise DefinitionError(f"{what} has {len(value)} characters; at most {limit} are allowed: {value[:60]!r}…")
    if not value.isprintable():
        raise DefinitionError(f"{what} may have printable characters only: {value!r}.")


def check_priority(value: Any, *, owner: str) -> None:
    """Refuse what is not a whole number from -100 to 100."""
    if not isinstance(value, int) or isinstance(value, bool) or value not in PRIORITIES:
        raise DefinitionError(f"{owner}: priority must be a whole number from -100 to 100, not {value!r}.")


def check_count(value: Any, *, name: str, owner: str) -> None:
    """Refuse what is not a whole number from 1 to ``LARGEST_COUNT``."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_COUNT:
        raise DefinitionError(f"{owner}: {name} must be a whole number from 1 to {LARGEST_COUNT:,}, not {value!r}.")


def check_flag(value: Any, *, name: str, owner: str) -> None:
    """Refuse what is not a bool."""
    if not isinstance(value, bool):
        raise DefinitionError(f"{owner}: {name} must be True or False, not {value!r}.")


def check_duration(value: Any, *, name: str, owner: str) -> None:
    """Refuse what is not a positive ``timedelta``."""
    if not isinstance(value, timedelta):
        raise DefinitionError(f"{owner}: {name} must be a timedelta, not {value!r}; such as timedelta(seconds=30).")
    if value <= timedelta(0):
        raise DefinitionError(f"{owner}: {name} must be longer than zero, not {value!r}.")


def check_delay(value: Any, *, name: str, owner: str) -> None:
    """Refuse what is not a ``timedelta`` of zero or more."""
    if not isinstance(value, timedelta):
        raise DefinitionError(f"{owner}: {name} must be a timedelta, not {value!r}; such as timedelta(hours=1).")
    if value < timedelta(0):
        raise DefinitionError(f"{owner}: {name} must not be negative, not {value!r}.")


def check_moment(value: Any, *, name: str, owner: str) -> None:
    """Refuse what is not a ``datetime`` with a time zone."""
    if not isinstance(value, datetime):
        raise DefinitionError(f"{owner}: {name} must be a datetime, not {value!r}.")
    if value.utcoffset() is None:
        raise DefinitionError(
            f"{owner}: {name} needs a time zone, and {value!r} has none. Use datetime.now(UTC), or "
            f"django.utils.timezone.make_aware(...)."
        )


def check_choice(value: Any, *, name: str, choices: Collection[str], owner: str) -> None:
    """Refuse what is not one of ``choices``."""
    if value not in choices:
        raise DefinitionError(
            f"{owner}: {name} must be one of {', '.join(repr(choice) for choice in choices)}, not {value!r}."
            f"{near(str(value), choices)}"
        )
