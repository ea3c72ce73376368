"""What a task may ask for beyond Django's own: retries, a time limit, at most one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

import msgspec

from django_durable.definitions import options as checks
from django_durable.definitions import stored_retry
from django_durable.definitions.retry import Retry
from django_durable.definitions.stored_retry import StoredRetry
from django_durable.exceptions import DefinitionError

ONCE = Retry(max_attempts=1)
"""What a task gets that asks for no retries: it was written for backends that have none."""

DURATIONS = ("initial_interval", "max_interval")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """How the function of a task is called."""

    retry: Retry = ONCE
    """How often, and when, it is called again after an exception."""
    start_to_close: timedelta | None = None
    """Time that one attempt may take; None: any."""
    at_most_once: bool = False
    """A crash of the process while it ran fails it, instead of calling it again."""


DEFAULTS = TaskOptions()

NAMES = tuple(option.name for option in fields(TaskOptions))


class StoredOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The options of a task that has some of its own; durations in seconds."""

    retry: StoredRetry | None = None
    start_to_close: float | None = None
    at_most_once: bool = False


def read(given: Mapping[str, Any], *, owner: str) -> TaskOptions:
    """Options as settings or a task have them; those that are None are left out.

    A retry policy is a ``Retry``, or a dict of its fields with durations as timedeltas or in seconds. Raises
    ``DefinitionError`` for what could not work.
    """
    checks.check_names(given, known=NAMES, owner=owner)
    values = {name: value for name, value in given.items() if value is not None}
    if "retry" in values:
        values["retry"] = _policy(values["retry"], owner)
    if "start_to_close" in values:
        values["start_to_close"] = _duration(values["start_to_close"])
        checks.check_duration(values["start_to_close"], name="start_to_close", owner=owner)
    if "at_most_once" in values:
        checks.check_flag(values["at_most_once"], name="at_most_once", owner=owner)
    return TaskOptions(**values)


def dump(options: TaskOptions) -> StoredOptions:
    limit = options.start_to_close
    return StoredOptions(
        retry=StoredRetry(**stored_retry.fields_of(options.retry)),
        start_to_close=limit.total_seconds() if limit is not None else None,
        at_most_once=options.at_most_once,
    )


def load(stored: StoredOptions) -> TaskOptions:
    limit = stored.start_to_close
    return TaskOptions(
        retry=stored.retry.policy(when=None) if stored.retry is not None else ONCE,
        start_to_close=timedelta(seconds=limit) if limit is not None else None,
        at_most_once=stored.at_most_once,
    )


def _policy(value: Any, owner: str) -> Retry:
    policy = _from_dict(value, owner) if isinstance(value, Mapping) else value
    if not isinstance(policy, Retry):
        raise DefinitionError(f"{owner}: retry must be a Retry or a dict of its fields, not {value!r}.")
    if policy.when is not None:
        raise DefinitionError(
            f"{owner}: Retry(when=...) is a function, which cannot be stored with a task. Name classes in retryable or "
            f"non_retryable, or let the task raise ApplicationError(non_retryable=True)."
        )
    return policy


def _from_dict(value: Mapping[str, Any], owner: str) -> Retry:
    checks.check_names(value, known=[one.name for one in fields(Retry)], owner=f"{owner}: retry")
    return Retry(**{name: _duration(given) if name in DURATIONS else given for name, given in value.items()})


def _duration(value: Any) -> Any:
    """Seconds as a timedelta; whatever else is left for a check to refuse."""
    return timedelta(seconds=value) if isinstance(value, int | float) and not isinstance(value, bool) else value
