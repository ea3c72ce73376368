"""Workflows that are carried by functions: each step may happen in another process."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta

from django_durable import Context, Retry, durable
from tests.flows import activities
from tests.flows.models import Entry

SOON = Retry(max_attempts=3, initial_interval=timedelta(seconds=1), jitter=False)


@durable.activity(retry=SOON)
def stumble(key: str) -> str:
    """Fails once."""
    activities.note("stumble", key)
    if durable.current_activity().attempt == 1:
        raise ConnectionError("not yet")
    return key


@durable.activity
def be_killed_once(key: str) -> str:
    """The first time, its process is killed."""
    activities.note("die", key)
    if Entry.objects.filter(kind="die", key=key).count() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return key


@durable.activity
def work_for(key: str, seconds: float) -> str:
    """Works on until it is done, or its worker wants to end."""
    current = durable.current_activity()
    until = time.monotonic() + seconds
    while time.monotonic() < until and not current.stopping:
        time.sleep(0.01)
    activities.note("work", key)
    return key


@durable.workflow
async def parcel(ctx: Context, key: str, seconds: float, stumbles: bool = False) -> list[str]:
    """Five activities, and a timer after the third; if it ``stumbles`` one is retried, too."""
    done = [await ctx.activity(activities.record_once, "parcel", f"{key}/{step}") for step in range(3)]
    if stumbles:
        done.append(await ctx.activity(stumble, key))
    await ctx.sleep(timedelta(seconds=seconds))
    return done + [await ctx.activity(activities.record_once, "parcel", f"{key}/{step}") for step in range(3, 5)]


@durable.workflow
async def last_words(ctx: Context, key: str) -> str:
    return await ctx.activity(be_killed_once, key)


@durable.workflow
async def shift(ctx: Context, key: str, seconds: float) -> list[str]:
    return [await ctx.activity(work_for, f"{key}/{step}", seconds) for step in range(2)]
