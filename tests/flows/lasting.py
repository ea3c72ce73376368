"""Activities with time limits and heartbeats, and workflows that call them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async

from django_durable import ActivityCancelled, ActivityError, Context, Retry, durable
from tests.flows.activities import FAST, note
from tests.flows.models import Entry

ONCE = Retry(max_attempts=1)
SHORT = timedelta(seconds=0.4)


def describe(error: ActivityError) -> dict[str, Any]:
    return {
        "timeout": error.timeout,
        "type": error.type,
        "attempts": error.attempts,
        "cause": str(error.cause) if error.cause else None,
    }


@durable.activity(schedule_to_start=SHORT, queue="nobody serves this")
def never_begun() -> None:
    """Waits in vain for a worker."""


@durable.activity(retry=Retry(max_attempts=None, initial_interval=timedelta(milliseconds=50), jitter=False))
def fails_for_ever(key: str) -> None:
    note("fails", key)
    raise ConnectionError(f"no answer for {key}")


@durable.activity(retry=ONCE)
def lasts(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not durable.current_activity().cancelled:
        time.sleep(0.01)
    return "lasted"


@durable.activity(retry=Retry(initial_interval=timedelta(milliseconds=20), jitter=False))
def fails_then_lasts(seconds: float) -> str:
    if durable.current_activity().attempt == 1:
        raise ConnectionError("no answer at first")
    lasted: str = lasts.function(seconds)
    return lasted


@durable.activity(retry=ONCE, heartbeat=SHORT)
def silent(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not durable.current_activity().cancelled:
        time.sleep(0.01)
    return "unnoticed"


@durable.activity(retry=ONCE, heartbeat=SHORT)
def beats(seconds: float, details: bool = False) -> int:
    """Lives for longer than its heartbeat timeout, and says so all the time."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        count += 1
        durable.current_activity().heartbeat(count if details else None)
        time.sleep(0.001)
    return count


@durable.activity(retry=ONCE, heartbeat=SHORT)
async def beats_async(seconds: float) -> int:
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        count += 1
        durable.current_activity().heartbeat({"count": count})
        await asyncio.sleep(0.01)
    return count


@durable.activity(retry=FAST)
def goes_on(upto: int) -> list[int]:
    """Fails at every second step; goes on where the attempt before has stopped."""
    me = durable.current_activity()
    done = list(me.heartbeat_details or [])
    while len(done) < upto:
        done.append(me.attempt)
        me.heartbeat(done)
        if len(done) % 2 == 0 and len(done) < upto:
            raise ConnectionError(f"after {len(done)}")
    return done


@durable.activity
def dies_after_heartbeat(key: str) -> Any:
    """Ends its process right after it has told how far it is; the next attempt tells what it found."""
    me = durable.current_activity()
    if not Entry.objects.filter(kind="died", key=key).exists():
        note("died", key)
        me.heartbeat({"page": 7})
        os._exit(9)
    return me.heartbeat_details


@durable.activity(retry=ONCE)
def until_cancelled(key: str) -> None:
    """Beats until it is told that nobody waits, and notes that it was."""
    note("begun", key)
    end = time.monotonic() + 30
    try:
        while time.monotonic() < end:
            durable.current_activity().heartbeat()
            time.sleep(0.01)
    except ActivityCancelled:
        note("cancelled", key)
        raise


@durable.activity(retry=ONCE)
def watches(key: str) -> None:
    """Sends no heartbeats, but looks whether anybody waits for it."""
    note("begun", key)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if durable.current_activity().cancelled:
            note("cancelled", key)
            break
        time.sleep(0.01)


@durable.activity(retry=ONCE)
async def until_cancelled_async(key: str) -> None:
    await sync_to_async(note)("begun", key)
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        await sync_to_async(note)("cancelled", key)
        raise


@durable.workflow
async def within(
    ctx: Context, name: str, args: list[Any], options: dict[str, float] | None = None, queue: str | None = None
) -> Any:
    """Calls one activity with these time limits (seconds); what it gives, or how it failed."""
    limits: Any = {option: timedelta(seconds=seconds) for option, seconds in (options or {}).items()}
    activity = durable.activity_named(name)
    if queue is not None:
        activity = activity.using(queue=queue)
    try:
        return await ctx.activity(activity.using(**limits) if limits else activity, *args)
    except ActivityError as error:
        return describe(error)


@durable.workflow
async def gives_up(ctx: Context, name: str, key: str, queue: str | None = None) -> str:
    """Calls an activity, and gives it up at the signal."""
    activity = durable.activity_named(name)
    call = asyncio.ensure_future(ctx.activity(activity.using(queue=queue) if queue else activity, key))
    await ctx.wait_signal("enough")
    call.cancel()
    try:
        await call
    except asyncio.CancelledError:
        return "given up"
    return "done"


tokens: dict[str, str] = {}
"""What activities have told to the world outside, by key."""


@durable.activity(retry=ONCE)
def asks_outside(key: str) -> int:
    tokens[key] = durable.current_activity().token
    durable.current_activity().complete_later()


@durable.activity(retry=ONCE)
async def asks_outside_async(key: str) -> int:
    tokens[key] = durable.current_activity().token
    durable.current_activity().complete_later()


@durable.activity(retry=Retry(max_attempts=2, initial_interval=timedelta(milliseconds=10)))
def asks_twice(key: str) -> Any:
    """Told from outside at the second attempt, because nobody answers the first."""
    me = durable.current_activity()
    tokens[f"{key}/{me.attempt}"] = me.token
    me.complete_later()


@durable.activity(retry=ONCE)
def told_too_early(key: str) -> str:
    """Completed from outside before it has ended."""
    tokens[key] = durable.current_activity().token
    end = time.monotonic() + 30
    while time.monotonic() < end:
        durable.current_activity().heartbeat()
        time.sleep(0.01)
    return "late"


@durable.activity(atomic=True, retry=ONCE)
def atomic_token() -> str:
    return durable.current_activity().token


@durable.activity
def tell_outside(key: str, token: str, url: str) -> None:
    tokens[key], tokens[f"{key}/url"] = token, url


@durable.workflow
async def waits_for_answer(ctx: Context, key: str, timeout: float | None = None, silence: float | None = None) -> Any:
    """Opens a callback, tells the world, and waits for its answer."""
    answer = ctx.callback("answer", returns=dict[str, int], timeout=timeout, heartbeat=silence)
    await ctx.activity(tell_outside, key, answer.token, answer.url)
    try:
        return await answer
    except ActivityError as error:
        return describe(error)


@durable.activity(retry=Retry(max_attempts=None, initial_interval=timedelta(hours=1), max_interval=timedelta(hours=1)))
def fails_and_waits(key: str) -> None:
    note("begun", key)
    raise ConnectionError("try again much later")


@durable.activity(retry=ONCE)
def goes_to_its_end(key: str) -> str:
    """Never looks whether anybody waits, beats now and then, and notes its end when it may go."""
    note("begun", key)
    end = time.monotonic() + 30
    while time.monotonic() < end and not Entry.objects.filter(kind="go", key=key).exists():
        with contextlib.suppress(ActivityCancelled):
            durable.current_activity().heartbeat()
        time.sleep(0.05)
    note("ended", key)
    return key


@durable.workflow
async def cancels(ctx: Context, how: Any, name: str, key: str, queue: str | None = None) -> list[Any]:
    """Cancels a call at the signal; tells whether its activity had ended when the cancellation was over."""
    activity = durable.activity_named(name).using(cancellation=how)
    call = asyncio.ensure_future(ctx.activity(activity.using(queue=queue) if queue else activity, key))
    await ctx.wait_signal("enough")
    call.cancel()
    try:
        await call
    except asyncio.CancelledError:
        seen = await ctx.activity(count_ends, key)
        await ctx.wait_signal("end")
        return ["cancelled", seen]
    return ["done"]


@durable.activity
def count_ends(key: str) -> int:
    return Entry.objects.filter(kind__in=("ended", "cancelled"), key=key).count()


def is_five(value: int) -> bool:
    return value >= 5


def is_broken(value: int) -> bool:
    raise LookupError(f"cannot judge {value}")


@durable.activity(retry=FAST)
def look(key: str, queue: str | None = None) -> int:
    """How often it was looked, this time included."""
    note("look", key)
    return Entry.objects.filter(kind="look", key=key).count()


@durable.activity(retry=FAST)
def look_and_fail(key: str) -> int:
    """Every second attempt fails."""
    note("look", key)
    if durable.current_activity().attempt == 1:
        raise ConnectionError("try again")
    return Entry.objects.filter(kind="look", key=key).count()


UNTIL = {"five": is_five, "broken": is_broken, "never": lambda value: False}


@durable.workflow
async def polls(
    ctx: Context,
    key: str,
    until: str = "five",
    every: float = 0.05,
    attempts: int | None = None,
    timeout: float | None = None,
    name: str = "flows.look",
    queue: str | None = None,
) -> Any:
    activity = durable.activity_named(name)
    called = activity.using(queue=queue) if queue else activity
    polling = called.polling(until=UNTIL[until], every=every, attempts=attempts, timeout=timeout)
    try:
        return await ctx.poll(polling, key)
    except ActivityError as error:
        return describe(error)


@durable.activity
def look_or_die(key: str) -> int:
    """The third look takes its process along."""
    note("look", key)
    looks = Entry.objects.filter(kind="look", key=key).count()
    if looks == 3:
        os._exit(9)
    return looks


@durable.activity(retry=FAST, start_to_close=timedelta(seconds=6))
def deaf(key: str) -> None:
    """Does not listen, and outlasts its time limit: it ends when it may go."""
    note("begun", key)
    end = time.monotonic() + 30
    while time.monotonic() < end and not Entry.objects.filter(kind="go", key=key).exists():
        time.sleep(0.05)


@durable.activity(retry=ONCE)
def looks_outside(key: str) -> int:
    me = durable.current_activity()
    note("look", key)
    tokens[f"{key}/{Entry.objects.filter(kind='look', key=key).count()}"] = me.token
    me.complete_later()


@durable.workflow
async def asks_the_chain(ctx: Context, key: str, rounds: int, awaits: bool = True, timeout: float | None = None) -> Any:
    """Tells the world one URL in its first run, continues as new so many times, each at a signal, and then waits."""
    answer = ctx.callback("answer", returns=dict[str, int], key=key, timeout=timeout)
    if ctx.info.continued_from is None:
        await ctx.activity(tell_outside, key, answer.token, answer.url)
    if rounds:
        await ctx.wait_signal("next")
        ctx.continue_as_new(key, rounds - 1, awaits, timeout)
    if not awaits:
        return [answer.token, answer.url]
    try:
        return await answer
    except ActivityError as error:
        return describe(error)


@durable.workflow
async def forgets_what_it_asked(ctx: Context, key: str) -> str:
    """Opens a callback and an activity that is completed later, and continues as new without them."""
    if ctx.info.continued_from is None:
        answer = ctx.callback("answer")
        await ctx.activity(tell_outside, f"{key}/callback", answer.token, answer.url)
        call = asyncio.ensure_future(ctx.activity(asks_outside, key))
        await ctx.wait_signal("next")
        call.cancel()
        ctx.continue_as_new(key)
    await ctx.wait_signal("end")
    return "ended"


@durable.workflow(retry=Retry(max_attempts=2, initial_interval=timedelta(milliseconds=10), jitter=False))
async def asks_and_fails(ctx: Context, key: str) -> Any:
    """Fails while its answer is still to come; the next try waits for the same one."""
    answer = ctx.callback("answer", key=key)
    if ctx.info.attempt == 1:
        await ctx.activity(tell_outside, key, answer.token, answer.url)
        raise ValueError("the first try fails")
    return await answer
