"""Activities that look again and again, until what they find will do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from django_durable.definitions import options as checks
from django_durable.exceptions import DefinitionError

if TYPE_CHECKING:
    from django_durable.definitions.activity import ActivityDefinition

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Polling(Generic[P, R]):
    """How ``ctx.poll()`` calls an activity. Made by ``activity.polling(...)``."""

    definition: ActivityDefinition[P, R]
    until: Callable[[R], Any]
    """Whether a result will do. A plain function without side effects; it may be called again for the same result."""
    every: timedelta
    """The pause between the end of a look and the next one."""
    attempts: int | None = None
    """How many looks at most; None: any number."""
    timeout: timedelta | None = None
    """How long they may take together; None: any time."""


def polling(
    definition: ActivityDefinition[P, R],
    *,
    until: Any,
    every: timedelta | float,
    attempts: Any,
    timeout: timedelta | float | None,
) -> Polling[P, R]:
    """Raises ``DefinitionError`` for what could not work."""
    owner = f"{definition.name}.polling()"
    if not callable(until) or inspect.iscoroutinefunction(until):
        raise DefinitionError(f"{owner}: until must be a plain function of the activity's result, not {until!r}.")
    if attempts is not None and (isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1):
        raise DefinitionError(f"{owner}: attempts must be a number of looks of at least 1, or None, not {attempts!r}.")
    return Polling(
        definition=definition,
        until=until,
        every=_duration(every, name="every", owner=owner),
        attempts=attempts,
        timeout=None if timeout is None else _duration(timeout, name="timeout", owner=owner),
    )


def _duration(value: timedelta | float, *, name: str, owner: str) -> timedelta:
    duration = timedelta(seconds=value) if isinstance(value, int | float) else value
    checks.check_duration(duration, name=name, owner=owner)
    return duration
