"""Tasks of Django (``django.tasks``, or the backport ``django_tasks``) as activities.

Only objects in hand are wrapped: those that a workflow's code passes, and those that stand in modules which discovery
has imported. A name that is stored somewhere never makes anything be imported.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from django.apps import apps
from django.conf import settings
from django.utils.module_loading import import_string

from django_durable.definitions.activity import ActivityDefinition, ActivityOptions
from django_durable.definitions.registry import registry
from django_durable.exceptions import DefinitionError

PLACES = ("django.tasks.base", "django_tasks.base")
BACKEND = "django_durable.contrib.tasks"
DEFAULT_QUEUE = "default"  # of a task for which nobody has chosen one


def as_activity(value: object) -> ActivityDefinition[..., Any] | None:
    """The activity that a task is, registered under the path of its function; None if ``value`` is no task.

    Raises ``DefinitionError`` for what an activity cannot do.
    """
    if not isinstance(value, _types()):
        return None
    task: Any = value
    function = task.func
    name = f"{function.__module__}.{function.__qualname__}"
    if task.takes_context:
        raise DefinitionError(
            f"Task {name} takes a context, which only Django's own backends have. Use durable.current_activity() in an "
            f"activity of its own."
        )
    if task.run_after is not None:
        raise DefinitionError(f"Task {name} has a run_after; in a workflow, ctx.sleep() comes before it instead.")
    activity = _registered(name, function)
    queue = None if task.queue_name == DEFAULT_QUEUE else task.queue_name
    if (activity.options.queue, activity.options.priority) == (queue, task.priority):
        return activity
    return activity.using(queue=queue, priority=task.priority)


def _registered(name: str, function: Callable[..., Any]) -> ActivityDefinition[..., Any]:
    known = {one.name: one for one in registry.activities()}.get(name)
    if known is not None and known.function is function:
        return known
    activity: ActivityDefinition[..., Any] = ActivityDefinition(function, name=name, options=ActivityOptions())
    registry.add_activity(activity)
    return activity


def load_backends() -> bool:
    """Import what ``TASKS`` names, so that workers know the workflow of our own backend; whether that is among it.

    A name that leads nowhere is for Django to tell, when somebody uses it.
    """
    for params in getattr(settings, "TASKS", {}).values():
        with contextlib.suppress(ImportError):
            import_string(params.get("BACKEND", ""))
    return BACKEND in sys.modules


def discover() -> None:
    """Register the tasks in the modules of installed apps that are imported by now, so that workers know them."""
    types = _types()
    modules: dict[str, Any] = dict(sys.modules) if types else {}
    for name, module in modules.items():
        if not isinstance(module, ModuleType) or apps.get_containing_app_config(name) is None:
            continue
        found: list[Any] = [value for value in vars(module).values() if isinstance(value, types)]
        for task in found:
            if task.func.__module__ == name and _is_usable(task):
                as_activity(task)


def _is_usable(task: Any) -> bool:
    """One that takes a context may be there for other purposes; only its use in a workflow is an error."""
    return not task.takes_context and task.run_after is None


def _types() -> tuple[type, ...]:
    """The classes of tasks, as far as anybody has imported them."""
    return tuple(sys.modules[place].Task for place in PLACES if place in sys.modules)
