"""What activities see of the place where their workflow was started."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.utils import timezone, translation

from django_durable import ActivityError, Context, Retry, durable

Seen = list[Any]


def seen() -> Seen:
    return [translation.get_language(), timezone.get_current_timezone_name(), durable.current_actor()]


@durable.activity(retry=Retry(max_attempts=2, initial_interval=timedelta(0)))
def look_later() -> Seen:
    """Through a task row."""
    if durable.current_activity().attempt == 1:
        raise ConnectionError("once more")
    return seen()


@durable.activity
def look_around() -> Seen:
    found = seen()
    translation.activate("fr")  # left behind, if the context were the thread's own
    timezone.activate("Asia/Tokyo")
    return found


@durable.activity(atomic=True)
def look_atomically() -> Seen:
    return seen()


@durable.activity
async def look_async() -> list[Seen]:
    await asyncio.sleep(0)
    return [seen(), await sync_to_async(seen)()]


@durable.workflow
async def looks(ctx: Context, deeper: int = 0, again: bool = False) -> list[Seen]:
    """What its activities see, and those of its children and of the run after it."""
    found = [await ctx.activity(activity) for activity in (look_around, look_later, look_atomically)]
    found = [*found, *await ctx.activity(look_async)]
    if deeper:
        found = [*found, *await ctx.child_workflow(looks, deeper - 1)]
    if again:
        ctx.continue_as_new(deeper)
    return found


@durable.workflow(retry=Retry(max_attempts=2, initial_interval=timedelta(0)))
async def looks_at_its_second_attempt(ctx: Context) -> Seen:
    if ctx.info.attempt == 1:
        raise ConnectionError("once more")
    return await ctx.activity(look_around)


@durable.activity
def start_another() -> str:
    return durable.start_workflow(looks).workflow_id


@durable.workflow
async def starts_another(ctx: Context) -> str:
    return await ctx.activity(start_another)


@durable.workflow
async def tells_why(ctx: Context) -> str:
    try:
        await ctx.activity(look_around.using(retry=Retry(max_attempts=1)))
    except ActivityError as error:
        return error.type
    return "nothing"
