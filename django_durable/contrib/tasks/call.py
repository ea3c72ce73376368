"""A task that was enqueued, as it is stored: the input of its run."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from inspect import iscoroutinefunction
from typing import Any

import msgspec
from django.conf import settings
from django.utils import timezone

from django_durable.contrib.tasks import options as task_options
from django_durable.contrib.tasks import task as tasks
from django_durable.contrib.tasks.interface import AnyResult, AnyTask, TaskResult, TaskResultStatus
from django_durable.contrib.tasks.options import StoredOptions, TaskOptions


class Call(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``path`` is that of the task's function. ``options``: None if there are only defaults."""

    path: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    backend: str
    queue_name: str
    priority: int = 0
    run_after: datetime | None = None
    is_async: bool = False
    options: StoredOptions | None = None


class Ended(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of a run: what the function returned, in which attempt, on which worker, begun when."""

    value: Any = None
    attempt: int
    worker: str
    at: datetime


def call_of(task: AnyTask, args: list[Any], kwargs: dict[str, Any], *, backend: str, options: TaskOptions) -> Call:
    """The call of ``task`` with arguments that are JSON values already."""
    return Call(
        path=task.module_path,
        args=args,
        kwargs=kwargs,
        backend=backend,
        queue_name=task.queue_name,
        priority=int(task.priority),
        run_after=aware(task.run_after),
        is_async=iscoroutinefunction(task.func),
        options=task_options.dump(options) if options != task_options.DEFAULTS else None,
    )


def options_of(call: Call) -> TaskOptions:
    return task_options.load(call.options) if call.options is not None else task_options.DEFAULTS


def task_of(call: Call) -> AnyTask:
    """The task as it was enqueued. Raises ``UnknownDefinition`` if this process has no such task."""
    task = tasks.find(call.path)
    as_enqueued: dict[str, Any] = {
        "backend": call.backend,
        "queue_name": call.queue_name,
        "priority": call.priority,
        "run_after": local(call.run_after),
    }
    if all(getattr(task, name) == value for name, value in as_enqueued.items()):
        return task
    return replace(task, **as_enqueued)


def result_of(call: Call, task: AnyTask, *, id: str, enqueued_at: datetime | None = None) -> AnyResult:
    """The result of a call that nobody has begun."""
    return TaskResult(
        task=task,
        id=id,
        status=TaskResultStatus.READY,
        enqueued_at=local(enqueued_at),
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=call.args,
        kwargs=call.kwargs,
        backend=call.backend,
        errors=[],
        worker_ids=[],
    )


def change(result: AnyResult, **values: Any) -> None:
    """Django's results are frozen for everybody but backends."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def workers(attempt: int, name: str) -> list[str]:
    """The worker of each attempt, as Django has it. Those of earlier ones are not kept: an empty text each."""
    return [""] * (attempt - 1) + [name] if attempt else []


def aware(moment: datetime | None) -> datetime | None:
    """A time of the project as our tables have it."""
    if moment is None or timezone.is_aware(moment):
        return moment
    return timezone.make_aware(moment, timezone.get_default_timezone())


def local(moment: datetime | None) -> datetime | None:
    """A time of ours as the project has it: naive and local without ``USE_TZ``."""
    if moment is None or settings.USE_TZ:
        return moment
    return timezone.make_naive(moment, timezone.get_default_timezone())
