"""Calls of whatever workflow code hands over to be called: an activity, a workflow as a child, a function."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, Protocol, TypeVar

from django_durable.definitions.activity import ActivityDefinition
from django_durable.definitions.registry import registry
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine.activities import Activities
from django_durable.engine.children import Children
from django_durable.exceptions import DefinitionError

P = ParamSpec("P")
T_co = TypeVar("T_co", covariant=True)

Start = Callable[[Any, tuple[Any, ...], dict[str, Any]], Awaitable[Any]]


class DjangoTask(Protocol[P, T_co]):
    """What ``django.tasks`` makes of a function, as far as types go."""

    @property
    def func(self) -> Callable[P, T_co]: ...

    @property
    def queue_name(self) -> str: ...


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


def activity_of(value: object) -> ActivityDefinition[Any, Any]:
    """``value`` as the activity that ``ctx.activity()`` calls. Raises ``DefinitionError`` if it is none."""
    if isinstance(value, ActivityDefinition):
        return value
    activity = registry.adapted(value)
    if activity is None:
        raise DefinitionError(_not_an_activity(value))
    return activity


def check_workflow(value: object, method: str) -> None:
    """Refuse what the context's ``method`` cannot start. Raises ``DefinitionError``."""
    if not isinstance(value, WorkflowDefinition):
        name = getattr(value, "__name__", repr(value))
        raise DefinitionError(f"ctx.{method}() needs a workflow, not {name}: decorate it with @durable.workflow.")


def _not_an_activity(value: object) -> str:
    if isinstance(value, WorkflowDefinition):
        return (
            f"ctx.activity() needs an activity, but {value.name} is a workflow: "
            "await ctx.child_workflow(...) runs it as a child."
        )
    if callable(value):
        name = getattr(value, "__name__", repr(value))
        return f"ctx.activity() needs an activity, but {name} is a plain function: decorate it with @durable.activity."
    return f"ctx.activity() needs an activity, not {value!r}: decorate a function with @durable.activity and pass that."
