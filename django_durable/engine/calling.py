"""Calls of whatever workflow code hands over to be called: an activity, a workflow as a child, a function."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from django_durable.definitions.activity import ActivityDefinition
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine.activities import Activities
from django_durable.engine.children import Children

Start = Callable[[Any, tuple[Any, ...], dict[str, Any]], Awaitable[Any]]


class Calling:
    """Knows for each kind of definition how it is started."""

    __slots__ = ("_starts",)

    def __init__(self, activities: Activities, children: Children) -> None:
        self._starts: dict[type, Start] = {ActivityDefinition: activities.call, WorkflowDefinition: children.run}

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
        """What is to be awaited for the result. Raises ``TypeError`` if ``function`` gives no such thing."""
        for kind, start in self._starts.items():
            if isinstance(function, kind):
                return start(function, args, kwargs)
        awaitable = function(*args, **kwargs)
        if not inspect.isawaitable(awaitable):
            raise TypeError(
                f"{name_of(function)} gave {awaitable!r}, which cannot be awaited. "
                f"Make it an async def, or an activity."
            )
        return awaitable


def name_of(function: Any) -> str:
    """What to call ``function`` in a message."""
    if isinstance(function, ActivityDefinition | WorkflowDefinition):
        return function.name
    return getattr(function, "__qualname__", None) or type(function).__qualname__
