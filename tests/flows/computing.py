"""Activities in processes of their own."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from datetime import timedelta
from typing import Any, NoReturn

from django.utils import translation

from django_durable import ActivityError, Context, Retry, durable
from tests.flows.activities import note
from tests.flows.models import Entry

AGAIN = Retry(max_attempts=3, initial_interval=timedelta(milliseconds=10), jitter=False)


@durable.activity(executor="process", retry=AGAIN)
def where() -> list[int]:
    """This process and the one that has started it."""
    return [os.getpid(), os.getppid()]


@durable.activity(executor="process", retry=AGAIN)
def add_up(numbers: list[int]) -> int:
    print("what is printed does not get between the messages")
    return sum(numbers)


@durable.activity(executor="process", retry=AGAIN)
def know_yourself(key: str) -> list[Any]:
    current = durable.current_activity()
    note("process", key)
    return [
        current.name, current.workflow_id, str(current.run_id), current.idempotency_key, current.attempt,
        translation.get_language(), durable.current_actor(),
    ]  # fmt: skip


@durable.activity(executor="process", retry=AGAIN)
def succeed_at(attempt: int) -> int:
    if durable.current_activity().attempt < attempt:
        raise ValueError(f"attempt {durable.current_activity().attempt}")
    return attempt


@durable.activity(executor="process", retry=AGAIN)
def count_on(last: int) -> list[int]:
    """Crashes half-way, after it has told where it is."""
    current = durable.current_activity()
    begun = current.heartbeat_details or 0
    for number in range(begun + 1, last + 1):
        current.heartbeat(number)
        if number == last // 2 and current.attempt == 1:
            os._exit(11)
    return [begun, last]


@durable.activity(executor="process", retry=AGAIN)
def spin(key: str) -> None:
    """Computes until it is killed."""
    Entry.objects.create(kind="spins", key=key, worker=str(os.getpid()), attempt=durable.current_activity().attempt)
    while True:
        sum(range(10_000))


@durable.activity(executor="process", retry=AGAIN)
def wait_for_the_end() -> str:
    note("waits", "")
    for _ in range(3_000):
        if durable.current_activity().stopping:
            return "stopping"
        time.sleep(0.01)
    return "in vain"


@durable.activity(executor="process", retry=AGAIN)
def hand_over(key: str) -> NoReturn:
    """Leaves a trace of its token, and its result to whoever has that."""
    current = durable.current_activity()
    trace = hashlib.sha256(current.token.encode()).hexdigest()
    Entry.objects.create(kind="token", key=trace, attempt=current.attempt, worker=key)
    current.complete_later()


@durable.activity(executor="process", retry=AGAIN)
def crash() -> None:
    note("crash", "")
    os._exit(11)


@durable.workflow
async def computes(
    ctx: Context,
    name: str,
    args: list[Any],
    seconds: dict[str, float] | None = None,
    priority: int = 0,
    at_most_once: bool = False,
    cancellation: Any = "try",
) -> Any:
    """What one of them gives, or how it failed; lost patience with it is a signal."""
    limits: Any = {option: timedelta(seconds=value) for option, value in (seconds or {}).items()}
    activity = durable.activity_named(name).using(
        **limits, priority=priority, at_most_once=at_most_once, cancellation=cancellation
    )
    call = asyncio.ensure_future(ctx.activity(activity, *args))
    impatience = asyncio.ensure_future(ctx.wait_signal("enough"))
    await asyncio.wait([call, impatience], return_when=asyncio.FIRST_COMPLETED)
    call.cancel()
    try:
        return await call
    except asyncio.CancelledError:
        return "given up"
    except ActivityError as error:
        return {
            "type": error.type,
            "message": error.message,
            "timeout": error.timeout,
            "attempts": error.attempts,
            "interrupted": error.interrupted,
        }
