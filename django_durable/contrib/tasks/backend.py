"""The backend of Django's tasks. What it adds to them: retries, tasks that survive their worker, enqueueing that is
part of the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from django_durable import durable
from django_durable.contrib.tasks import options as task_options
from django_durable.contrib.tasks import task as tasks
from django_durable.contrib.tasks.call import call_of, change, result_of
from django_durable.contrib.tasks.interface import (
    AnyResult,
    AnyTask,
    BaseTaskBackend,
    InvalidTask,
    normalize_json,
    task_enqueued,
)
from django_durable.contrib.tasks.options import TaskOptions
from django_durable.contrib.tasks.running import run_task
from django_durable.contrib.tasks.task import DurableTask
from django_durable.definitions.options import NAME_LIMIT
from django_durable.definitions.workflow import WorkflowCall
from django_durable.exceptions import DefinitionError, UnknownDefinition

if TYPE_CHECKING:
    from django_durable.contrib.tasks import results
else:  # it loads models, and a backend is made by the first @task, which may be imported before them
    results = SimpleLazyObject(lambda: import_module("django_durable.contrib.tasks.results"))

Enqueued = tuple[AnyTask, Sequence[Any], Mapping[str, Any]]
"""A task, its positional and its named arguments."""


class DurableBackend(BaseTaskBackend):
    """Each enqueued task is a run of the workflow ``durable.task``; the id of its result is that of the run."""

    task_class = DurableTask
    supports_defer = True  # run_after is when the run begins
    supports_async_task = True  # on the event loop of the worker
    supports_get_result = True  # from the tables, in any process
    supports_priority = True  # higher first, as runs have it

    @cached_property
    def task_options(self) -> TaskOptions:
        """What tasks get that ask for nothing else. Raises ``DefinitionError`` for OPTIONS that could not work."""
        return task_options.read(self.options, owner=self._owner)

    def validate_task(self, task: AnyTask) -> None:
        """Raises ``InvalidTask`` for what Django refuses, and for retries and limits that could not work."""
        super().validate_task(task)
        try:
            task_options.read(tasks.own_options(task), owner=f"Task {task.module_path}")
        except DefinitionError as error:
            raise InvalidTask(str(error)) from error

    def enqueue(self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> AnyResult:  # type: ignore[override]
        """Store a task in the caller's transaction: whoever rolls that back has enqueued nothing.

        Raises ``InvalidTask``, and ``TypeError``, ``ValueError`` or ``PayloadError`` for arguments that JSON cannot
        hold.
        """
        start, result = self._prepared(task, args, kwargs)
        handle = durable.start_workflow(start.definition, *start.args)
        return self._enqueued(result, str(handle.run_id))

    def enqueue_many(self, calls: Iterable[Enqueued]) -> list[AnyResult]:
        """Store many tasks, ``(task, args, kwargs)`` each, in one transaction; on PostgreSQL by one statement.

        Either all or, if one of them cannot be stored, none. The results come in the order of the calls.
        """
        prepared = [self._prepared(*call) for call in calls]
        handles = durable.start_workflows([start for start, _ in prepared])
        return [
            self._enqueued(result, str(handle.run_id)) for (_, result), handle in zip(prepared, handles, strict=True)
        ]

    def get_result(self, result_id: str) -> AnyResult:
        """How a task is. Raises ``TaskResultDoesNotExist``, and ``UnknownDefinition`` if this process has no such
        task."""
        return results.read(result_id)

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """durable.E201: OPTIONS that could not work. durable.E202: the app is not installed."""
        return [*super().check(**kwargs), *self._check_options(), *self._check_app()]

    def _check_options(self) -> list[CheckMessage]:
        try:
            task_options.read(self.options, owner=self._owner)
        except (DefinitionError, TypeError) as error:
            hint = f"OPTIONS may have {', '.join(task_options.NAMES)}."
            return [Error(str(error), hint=hint, id="durable.E201")]
        return []

    def _check_app(self) -> list[CheckMessage]:
        if apps.is_installed("django_durable"):
            return []
        message = f"TASKS[{self.alias!r}] uses DurableBackend, but its tables are not there."
        return [Error(message, hint="Add 'django_durable' to INSTALLED_APPS.", id="durable.E202")]

    @property
    def _owner(self) -> str:
        return f"TASKS[{self.alias!r}]['OPTIONS']"

    def _prepared(
        self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[WorkflowCall, AnyResult]:
        """The start of the run, and the result that lacks its id."""
        self.validate_task(task)
        given: dict[str, Any] = normalize_json({"args": args, "kwargs": kwargs})  # type: ignore[assignment]
        call = call_of(task, **given, backend=self.alias, options=self._options_of(task))
        _check_can_be_found(task)
        definition = run_task.using(
            queue=call.queue_name,
            priority=call.priority,
            start_at=call.run_after,
            label=call.path[-NAME_LIMIT:],
        )
        return definition.call(call), result_of(call, task, id="")

    def _options_of(self, task: AnyTask) -> TaskOptions:
        own = tasks.own_options(task)
        return (
            task_options.read({**self.options, **own}, owner=f"Task {task.module_path}") if own else self.task_options
        )

    def _enqueued(self, result: AnyResult, result_id: str) -> AnyResult:
        change(result, id=result_id, enqueued_at=timezone.now())
        task_enqueued.send(sender=type(self), task_result=result)
        return result


def _check_can_be_found(task: AnyTask) -> None:
    """A worker finds it by the path of its function, so that must lead to a task."""
    try:
        tasks.find(task.module_path)
    except UnknownDefinition as error:
        raise InvalidTask(
            f"Workers could not find this task: {task.module_path!r} is no task here. Put @task above its function, "
            f"and leave it under the function's name."
        ) from error
