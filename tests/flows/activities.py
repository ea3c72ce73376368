"""Activities of the tests."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import os
import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connection, transaction

from django_durable import ApplicationError, Retry, RetryAfter, durable
from django_durable.models import HistoryEvent
from tests.flows.models import Entry

FAST = Retry(max_attempts=3, initial_interval=timedelta(milliseconds=10), jitter=False)


def note(kind: str, key: str) -> None:
    """Write an effect of the running activity."""
    current = durable.current_activity()
    Entry.objects.create(kind=kind, key=key, attempt=current.attempt, worker=str(os.getpid()))


@durable.activity
def nothing(value: int = 0) -> int:
    return value


@durable.activity
async def nothing_async(value: int = 0) -> int:
    await asyncio.sleep(0)
    return value


@durable.activity(retry=FAST)
def add(a: int, b: int) -> int:
    return a + b


@durable.activity(retry=FAST)
def record(kind: str, key: str, seconds: float = 0.0) -> str:
    """An ordinary effect: at least once."""
    note(kind, key)
    time.sleep(seconds)
    return key


@durable.activity(atomic=True, retry=FAST)
def record_once(kind: str, key: str, seconds: float = 0.0) -> str:
    """An atomic effect: exactly once."""
    note(kind, key)
    time.sleep(seconds)
    return key


@durable.activity(at_most_once=True)
def record_at_most_once(kind: str, key: str, seconds: float = 0.0) -> str:
    note(kind, key)
    time.sleep(seconds)
    return key


@durable.activity(retry=FAST)
def fail_until(key: str, attempts: int) -> int:
    """Fails until its attempt is ``attempts``."""
    attempt = durable.current_activity().attempt
    note("fail_until", key)
    if attempt < attempts:
        raise ConnectionError(f"attempt {attempt} of {key}")
    return attempt


@durable.activity(retry=FAST)
def fail_always(message: str) -> None:
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError(message) from error


@durable.activity
def fail_for_good(message: str) -> None:
    raise ApplicationError(message, type="CardDeclined", non_retryable=True, data={"code": 51})


@durable.activity
def retry_after(key: str, seconds: float) -> int:
    attempt = durable.current_activity().attempt
    note("retry_after", key)
    if attempt == 1:
        raise RetryAfter("later", delay=timedelta(seconds=seconds))
    return attempt


@durable.activity(start_to_close=timedelta(seconds=0.5), retry=FAST)
def too_slow(key: str, seconds: float) -> str:
    note("too_slow", key)
    if durable.current_activity().attempt == 1:
        time.sleep(seconds)
    return key


@durable.activity(atomic=True, retry=Retry(max_attempts=1))
def roll_back_silently(key: str) -> str:
    note("silent", key)
    transaction.set_rollback(True)
    return key


def _explode() -> None:
    raise RuntimeError("an on_commit hook")


@durable.activity(atomic=True, retry=Retry(max_attempts=1))
def commit_then_raise(key: str) -> str:
    note("hook", key)
    transaction.on_commit(_explode)
    return key


@durable.activity(atomic=True, retry=FAST)
def fail_atomically_once(key: str) -> int:
    note("atomic_failure", key)
    attempt = durable.current_activity().attempt
    if attempt == 1:
        raise ConnectionError("first attempt")
    return attempt


@durable.activity(queue="elsewhere")
def elsewhere(key: str) -> str:
    note("elsewhere", key)
    return key


gates: dict[str, threading.Event] = {}


@durable.activity
def wait_for_gate(name: str) -> str:
    """Runs until the test opens the gate (same process only)."""
    gates.setdefault(name, threading.Event()).wait(30)
    return name


@durable.activity
def describe() -> dict[str, str]:
    current = durable.current_activity()
    return {
        "workflow_id": current.workflow_id,
        "run_id": str(current.run_id),
        "key": current.idempotency_key,
        "attempt": str(current.attempt),
        "name": current.name,
    }


@durable.activity
def die_once(key: str) -> str:
    """Takes its process along, the first time that it runs."""
    if not Entry.objects.filter(kind="die", key=key).exists():
        note("die", key)
        os._exit(9)
    return key


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


@dataclass
class Parcel:
    """A value of the kinds that payloads keep by annotation."""

    id: UUID
    price: Decimal
    packed_at: datetime
    colour: Colour
    labels: list[str]


@durable.activity
def stamp(parcel: Parcel, extra: Decimal) -> Parcel:
    """Gets and gives real objects, not their stored form."""
    return replace(
        parcel, price=parcel.price + extra, packed_at=parcel.packed_at + timedelta(days=1), colour=Colour.GREEN
    )


@durable.activity(retry=FAST)
def unstorable() -> object:
    note("unstorable", "")
    return object()


@durable.activity(retry=FAST)
async def record_async(key: str) -> str:
    """Async code that uses both ways into the ORM."""
    await sync_to_async(note)("async", key)
    return f"{key}: {await Entry.objects.filter(kind='async', key=key).acount()}"


@durable.activity(start_to_close=timedelta(seconds=0.5), retry=FAST)
async def too_slow_async(key: str, seconds: float) -> str:
    await sync_to_async(note)("too_slow", key)
    if durable.current_activity().attempt == 1:
        await asyncio.sleep(seconds)
    return key


@durable.activity(start_to_close=timedelta(seconds=0.5), retry=Retry(max_attempts=2, initial_interval=timedelta(0)))
def always_too_slow(gate: str) -> str:
    """Outlasts its time limit until the test opens the gate."""
    note("too_slow", gate)
    gates.setdefault(gate, threading.Event()).wait(30)
    return gate


@durable.activity(atomic=True, start_to_close=timedelta(seconds=0.3), retry=Retry(max_attempts=1))
def record_once_in_time(key: str, seconds: float) -> str:
    note("atomic too slow", key)
    time.sleep(seconds)
    return key


@durable.activity(at_most_once=True, retry=Retry(max_attempts=1))
def at_most_once_at_gate(gate: str) -> str:
    note("at_most_once", gate)
    gates.setdefault(gate, threading.Event()).wait(30)
    return gate


@durable.activity
def recorded_at_gate(gate: str) -> str:
    """Writes its effect, then waits for the gate."""
    note("gate", gate)
    gates.setdefault(gate, threading.Event()).wait(30)
    return gate


@durable.activity(atomic=True, retry=FAST)
def record_once_at_gate(gate: str) -> str:
    note("atomic gate", gate)
    gates.setdefault(gate, threading.Event()).wait(30)
    return gate


@durable.activity
def until_stopping() -> str:
    """Looks again and again whether its worker stops."""
    current = durable.current_activity()
    deadline = time.monotonic() + 30
    while not current.stopping and time.monotonic() < deadline:
        time.sleep(0.01)
    return "stopping" if current.stopping else "in vain"


@durable.activity(atomic=True)
def cancel_after_commit(key: str) -> str:
    """Its run is cancelled when its effect is committed and nobody has told the run yet."""
    note("cancelled", key)
    cancel = functools.partial(durable.cancel_workflow, durable.current_activity().workflow_id)
    transaction.on_commit(cancel)
    return key


@durable.activity(retry=FAST)
def break_connection_once(key: str) -> int:
    """Its first attempt loses its connection to the server and fails with it."""
    attempt = durable.current_activity().attempt
    if attempt == 1:
        note("broken", key)
        connection.connection.close()
    note("whole", key)
    return attempt


def write_to(alias: str, key: str, way: str) -> int:
    """Write here and to another database, or only read there."""
    note("here", key)
    elsewhere = Entry.objects.using(alias)
    match way:
        case "read":
            return elsewhere.count()
        case "in a transaction":
            with transaction.atomic(using=alias):
                elsewhere.create(kind="elsewhere", key=key)
        case "in silence":
            with contextlib.suppress(Exception):
                elsewhere.create(kind="elsewhere", key=key)
        case "another error":
            try:
                elsewhere.create(kind="elsewhere", key=key)
            except Exception as error:
                raise ConnectionError("the other database") from error
        case _:
            elsewhere.create(kind="elsewhere", key=key)
    return 0


@durable.activity(atomic=True, retry=FAST)
def write_to_atomically(alias: str, key: str, way: str) -> int:
    return write_to(alias, key, way)


@durable.activity(retry=FAST)
def write_to_both(alias: str, key: str) -> int:
    return write_to(alias, key, "simply")


@durable.activity
def repeat(word: str) -> str:
    return word


@durable.activity(retry=FAST)
def record_own_key() -> str:
    """Its effect is known by the idempotency key that this attempt was given."""
    key = durable.current_activity().idempotency_key
    note("own key", key)
    return key


kept: list[str] = []
"""What ``lengthen`` returned last: the very object."""


@durable.activity
def lengthen(words: list[str]) -> list[str]:
    """Changes its argument, returns it, and keeps it."""
    global kept
    words.append("activity")
    kept = words
    return words


@durable.activity
def what_was_kept() -> list[str]:
    return kept


@durable.activity
def size_of(text: str) -> int:
    return len(text)


@durable.activity
def committed_history() -> list[str]:
    """The types of its run's events, as this thread's own connection sees them."""
    run = durable.current_activity().run_id
    return list(HistoryEvent.objects.filter(run_id=run).order_by("sequence").values_list("type", flat=True))


@durable.activity
def hold_interpreter(numbers: int) -> int:
    """Keeps the interpreter in one call of C code, where no other thread gets a turn until it rests before its end."""
    total = sum(range(numbers))
    time.sleep(0.2)
    return total


@durable.activity(retry=Retry(max_attempts=1))
def double(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is below zero")
    return 2 * number


mishaps: dict[str, int] = {}
"""How often ``mend`` fails yet, by key; a negative number: always."""


@durable.activity(retry=Retry(max_attempts=1))
def mend(key: str) -> str:
    """Fails as long as the test says so; keeps the idempotency keys that it was called with."""
    Entry.objects.create(kind="mend", key=key, worker=durable.current_activity().idempotency_key[-50:])
    if mishaps.get(key):
        mishaps[key] -= 1
        raise ValueError(f"{key} is broken")
    return key


@durable.activity(retry=Retry(max_attempts=1), atomic=True)
def mend_once(key: str) -> str:
    """The same, exactly once."""
    if mishaps.get(key):
        mishaps[key] -= 1
        raise ValueError(f"{key} is broken")
    Entry.objects.create(kind="mend", key=key)
    return key


@durable.activity(retry=Retry(max_attempts=1), queue="elsewhere")
def mend_elsewhere(key: str) -> str:
    """The same, in another queue."""
    result: str = mend.function(key)
    return result


@durable.activity(retry=Retry(max_attempts=1))
def mend_once_paid(key: str, paid: str) -> str:
    """Waits until another activity has committed its effect; then fails as long as the test says so."""
    end = time.monotonic() + 30
    while not Entry.objects.filter(key=paid).exists() and time.monotonic() < end:
        time.sleep(0.01)
    result: str = mend.function(key)
    return result


@durable.activity(retry=Retry(max_attempts=1))
def step(key: str) -> str:
    note("step", key)
    return key


@durable.activity(retry=Retry(max_attempts=1), atomic=True)
def step_once(key: str) -> str:
    """An effect that is there exactly once; fails before it as long as the test says so."""
    if mishaps.get(key):
        mishaps[key] -= 1
        raise ValueError(f"{key} is broken")
    note("atomic", key)
    return key


@durable.activity(retry=Retry(max_attempts=1))
def starts_inside(alias: str) -> None:
    """Starts a workflow in a transaction that is not that of workflows."""
    with transaction.atomic(using=alias):
        durable.start_workflow(durable.workflow_named("flows.echo"), 1)
