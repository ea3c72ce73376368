"""Tasks of Django, which workflows run as activities."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import django
from django.utils.module_loading import import_string

from django_durable import ActivityError, Context, durable

task: Any = import_string("django.tasks.task" if django.VERSION >= (6,) else "django_tasks.task")


@task
def greet(name: str, *, loudly: bool = False) -> str:
    return f"HELLO {name}" if loudly else f"Hello {name}"


@task(priority=7)
async def count_letters(word: str) -> int:
    await asyncio.sleep(0)
    return len(word)


@task
def who_runs_it() -> list[Any]:
    current = durable.current_activity()
    if current.attempt == 1:
        raise ConnectionError("once more")
    return [current.name, current.attempt]


@task(takes_context=True)
def with_context(context: Any) -> None: ...


@durable.workflow
async def runs_errands(ctx: Context, name: str) -> list[Any]:
    greeted = await ctx.activity(greet, name, loudly=True)
    counted = await ctx.activity(count_letters, name)
    return [greeted, counted, *await ctx.activity(who_runs_it)]


@durable.workflow
async def queues_an_errand(ctx: Context, queue: str) -> Any:
    return await ctx.activity(greet.using(queue_name=queue, priority=-5), "from afar")


@durable.workflow
async def takes_it_by_name(ctx: Context) -> str:
    activity = durable.activity_named("tests.flows.errands.greet").using(start_to_close=timedelta(minutes=1))
    return str(await ctx.activity(activity, "by name"))


@durable.workflow
async def wants_a_context(ctx: Context) -> None:
    await ctx.activity(with_context)


@durable.workflow
async def passes_what_does_not_fit(ctx: Context) -> str:
    try:
        await ctx.activity(greet, name=7)
    except ActivityError as error:
        return error.type
    return "it fits"
