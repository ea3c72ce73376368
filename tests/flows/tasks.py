"""Tasks for the backends ``durable`` and ``patient`` of ``django.tasks``."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import django
from django.utils.module_loading import import_string

from django_durable import ApplicationError, RetryAfter, durable
from tests.flows import activities

task: Any = import_string("django.tasks.task" if django.VERSION >= (6,) else "django_tasks.task")


class Declined(Exception):
    """A failure that only this project knows."""


@task(backend="durable")
def add(a: int, b: int) -> int:
    return a + b


@task(backend="durable")
def echo(*args: Any, **kwargs: Any) -> list[Any]:
    return [list(args), kwargs]


@task(backend="durable")
async def shout(word: str) -> list[Any]:
    await asyncio.sleep(0)
    return [word.upper(), threading.current_thread().name]


@task(backend="durable")
def note(key: str) -> None:
    activities.note("task", key)


@task(backend="durable")
def wait_at(gate: str) -> str:
    activities.wait_for_gate(gate)
    return gate


@task(backend="durable", takes_context=True)
def tell(context: Any, word: str) -> list[Any]:
    result = context.task_result
    return [context.attempt, result.id, result.args, result.status.value, word]


@task(backend="durable", takes_context=True)
async def tell_async(context: Any) -> int:
    await asyncio.sleep(0)
    return int(context.attempt)


@task(backend="durable")
def decline(why: str) -> None:
    raise Declined(why)


@task(backend="durable")
async def decline_async(why: str) -> None:
    raise Declined(why)


stock: dict[str, int] = {}


@task(backend="durable")
def take(sku: str) -> int:
    return stock[sku]


@task(backend="durable")
def leave() -> None:
    raise SystemExit(3)


@task(backend="durable")
def give(what: str) -> Any:
    return {"set": {1, 2}, "nan": float("nan"), "bytes": b"text", "tuple": (1, 2)}[what]


@task(backend="durable")
def promise() -> None:
    durable.current_activity().complete_later()


@task(backend="patient", takes_context=True)
def succeed_at(context: Any, attempt: int) -> int:
    if context.attempt < attempt:
        raise Declined(f"attempt {context.attempt}")
    return int(context.attempt)


@task(backend="patient")
def miss() -> None:
    raise KeyError("a LookupError is not worth another attempt")


@task(backend="patient")
def give_up() -> None:
    raise ApplicationError("nothing will help", non_retryable=True)


@task(backend="patient", takes_context=True)
def come_back(context: Any) -> int:
    if context.attempt == 1:
        raise RetryAfter("in an hour", delay=timedelta(hours=1))
    return int(context.attempt)


@task(backend="patient", takes_context=True)
async def succeed_at_async(context: Any, attempt: int) -> int:
    if context.attempt < attempt:
        raise Declined(f"attempt {context.attempt}")
    return int(context.attempt)


@task(backend="durable")
def dawdle(gate: str) -> None:
    activities.wait_for_gate(gate)
    raise Declined("too late for anybody to hear")


def no_task() -> None:
    """A function that nobody has decorated."""


renamed = task(backend="durable")(no_task)
