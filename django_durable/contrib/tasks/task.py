"""Tasks that ask for retries, and how a stored path leads back to a task."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Self

from django_durable.contrib.tasks.interface import AnyTask, Task
from django_durable.contrib.tasks.options import NAMES
from django_durable.definitions.retry import Retry
from django_durable.exceptions import UnknownDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableTask(AnyTask):
    """What ``@task`` makes of a function for a ``DurableBackend``. What is None is as the backend's OPTIONS say."""

    retry: Retry | dict[str, Any] | None = None
    start_to_close: timedelta | float | None = None
    at_most_once: bool | None = None

    def using(
        self,
        *,
        retry: Retry | dict[str, Any] | None = None,
        start_to_close: timedelta | float | None = None,
        at_most_once: bool | None = None,
        **changes: Any,
    ) -> Self:
        """A task with other options; what is not given stays as it is."""
        # Named, not super(): a dataclass with slots is another class than the one that super() would mean.
        changed: Any = Task.using(self, **changes) if changes else self
        own = {"retry": retry, "start_to_close": start_to_close, "at_most_once": at_most_once}
        own = {name: value for name, value in own.items() if value is not None}
        return replace(changed, **own) if own else changed  # type: ignore[no-any-return]


def own_options(task: AnyTask) -> dict[str, Any]:
    """What this task asks for by itself. One that was declared for another backend asks for nothing."""
    asked = {name: getattr(task, name, None) for name in NAMES}
    return {name: value for name, value in asked.items() if value is not None}


def find(path: str) -> AnyTask:
    """The task whose function has this path, among those that this process has imported by now.

    Nothing is imported, and nothing but a task is returned, because the path may be text out of a row. Raises
    ``UnknownDefinition``.
    """
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    if isinstance(found, Task):
        return found
    raise UnknownDefinition(
        f"No task is called {path!r} in this process. Tasks are found in the tasks.py of every app in INSTALLED_APPS, "
        f"under the name of their function; modules that are called otherwise need an import there."
    )
