"""``wait_until``: who waits goes on when the predicate holds, and it still does when the code runs."""

from __future__ import annotations

import asyncio
import contextvars
from datetime import timedelta
from typing import Any

import pytest

from django_durable.engine.context import Context
from django_durable.exceptions import UnsupportedInWorkflow
from tests.unit.engine_harness import STEP, Run, workflow


@workflow
async def collects(ctx: Context) -> list[str]:
    names: list[str] = []

    @ctx.on_signal("approve")
    def approve(name: str) -> None:
        names.append(name)

    await ctx.wait_until(lambda: len(names) >= 2)
    return names


def test_what_a_handler_changes_is_seen():
    run = Run(collects)
    run.signal("approve", "Ada")
    assert not run.instance.closed
    run.signal("approve", "Bob")
    assert run.result() == ["Ada", "Bob"]


@workflow
async def holds_already(ctx: Context) -> str:
    await ctx.wait_until(lambda: True, timeout=5)
    return "at once"


def test_what_holds_already_is_not_waited_for():
    run = Run(holds_already)
    assert run.commands == ["CompleteRun"]
    assert run.result() == "at once"


@workflow
async def patient(ctx: Context, timeout: float | None) -> str:
    done: list[str] = []

    async def work() -> None:
        done.append(await ctx.activity(STEP, "a"))

    task = asyncio.create_task(work())
    try:
        await ctx.wait_until(lambda: bool(done), timeout=timeout)
    except TimeoutError as error:
        task.cancel()
        return str(error)
    return done[0]


def test_what_a_task_changes_is_seen_and_ends_the_timer():
    run = Run(patient, 60.0)
    run.complete("a")
    assert run.commands == ["CancelTimer", "CompleteRun"]
    assert run.result() == "a"


def test_a_wait_times_out():
    run = Run(patient, 60.0)
    run.fire()
    assert run.result() == "The condition did not hold within 60.0."


def test_a_timeout_of_nothing_is_over_at_once():
    run = Run(patient, 0.0)
    assert run.result() == "The condition did not hold within 0.0."


@workflow
async def until_a_date(ctx: Context) -> str:
    due = ctx.now() + timedelta(days=1)
    await ctx.wait_until(lambda: ctx.now() >= due, timeout=timedelta(days=1))
    return "due"


def test_the_time_itself_is_looked_at_once_more_before_the_timeout():
    run = Run(until_a_date)
    run.fire()
    assert run.result() == "due"


@workflow
async def shares(ctx: Context) -> list[str]:
    """Four want the one free place: a predicate must still hold when the code behind it runs."""
    free = 1
    order: list[str] = []

    async def one(name: str) -> None:
        nonlocal free
        await ctx.wait_until(lambda: free > 0)
        assert free > 0
        free -= 1
        await ctx.activity(STEP, name)
        order.append(name)
        free += 1

    await asyncio.gather(*(one(name) for name in "abcd"))
    return order


def test_only_one_goes_on_at_a_time_in_the_order_of_waiting():
    run = Run(shares)
    for label in "abcd":
        assert list(run.pending) == [label]
        run.complete(label)
    assert run.result() == ["a", "b", "c", "d"]


@workflow
async def dominoes(ctx: Context, count: int) -> list[int]:
    """Each waits for the one after it: the first to wait is the last to go on."""
    fallen: list[int] = []

    async def stand(number: int) -> None:
        await ctx.wait_until(lambda: number + 1 in fallen)
        fallen.append(number)

    tasks = [asyncio.create_task(stand(number)) for number in range(count)]
    await ctx.activity(STEP, "push")
    fallen.append(count)
    await asyncio.wait(tasks)
    return fallen


def test_what_one_changes_wakes_the_others_in_the_same_drain():
    run = Run(dominoes, 30)
    run.complete("push")
    assert run.result() == list(range(30, -1, -1))


@workflow
async def counts_looks(ctx: Context) -> int:
    looks = 0
    place = 0

    def look(number: int) -> bool:
        nonlocal looks
        looks += 1
        return place > number

    tasks = [asyncio.create_task(ctx.wait_until(lambda number=number: look(number))) for number in range(200)]  # type: ignore[misc]
    await ctx.activity(STEP, "a")
    looks, place = 0, 200
    await asyncio.wait(tasks)
    return looks


def test_many_that_go_on_at_once_are_looked_at_once_each():
    run = Run(counts_looks)
    run.complete("a")
    assert run.result() == 200


CITY: contextvars.ContextVar[str] = contextvars.ContextVar("CITY", default="nowhere")


@workflow
async def uses_context(ctx: Context) -> str:
    seen: list[str] = []
    CITY.set("Rome")

    def look() -> bool:
        seen.append(CITY.get())
        return len(seen) > 1

    task = asyncio.create_task(ctx.wait_until(look))
    await ctx.activity(STEP, "a")
    CITY.set("Oslo")
    await task
    return seen[-1]


def test_a_predicate_is_called_in_the_context_of_who_waits():
    run = Run(uses_context)
    run.complete("a")
    assert run.result() == "Rome"


@workflow
async def breaks(ctx: Context) -> str:
    places: dict[str, int] = {"a": 1}

    async def spoil() -> None:
        await ctx.activity(STEP, "a")
        places.clear()

    task = asyncio.create_task(spoil())
    try:
        await ctx.wait_until(lambda: places["a"] > 1)
    except KeyError as error:
        return f"no {error}"
    finally:
        await task
    return "never"


def test_what_the_predicate_raises_is_raised_where_it_is_awaited():
    run = Run(breaks)
    run.complete("a")
    assert run.result() == "no 'a'"


@workflow
async def asks_in_vain(ctx: Context, how: str) -> str:
    predicates: dict[str, Any] = {
        "random": lambda: ctx.random.random() > 2,
        "timer": lambda: asyncio.get_running_loop().call_later(5, print),
    }
    try:
        await ctx.wait_until(predicates[how])
    except UnsupportedInWorkflow as error:
        return str(error)
    return "never"


@pytest.mark.parametrize("how", ["random", "timer"])
def test_a_predicate_can_only_look(how):
    assert "can only look" in Run(asks_in_vain, how).result()


@workflow
async def given_no_predicate(ctx: Context, how: str) -> None:
    async def later() -> bool:
        return True

    given: dict[str, Any] = {"async": later, "coroutine": lambda: later(), "value": True}
    await ctx.wait_until(given[how])


@pytest.mark.parametrize("how", ["async", "coroutine", "value"])
def test_what_is_no_predicate_is_refused(how):
    assert Run(given_no_predicate, how).failure.type == "DefinitionError"


@workflow
async def cancelled_while_waiting(ctx: Context) -> str:
    ready = False
    task = asyncio.create_task(ctx.wait_until(lambda: ready))
    await ctx.activity(STEP, "a")
    ready = True
    task.cancel()
    await asyncio.wait([task])
    return "cancelled" if task.cancelled() else "went on"


def test_a_wait_that_was_cancelled_is_not_woken():
    run = Run(cancelled_while_waiting)
    run.complete("a")
    assert run.result() == "cancelled"


def test_a_run_that_waits_for_a_condition_can_be_cancelled():
    run = Run(collects)
    run.cancel("enough")
    assert run.kinds[-1] == "RunCancelled"
    run.check_replay()


def test_the_stack_says_what_is_waited_for():
    run = Run(collects)
    (entry,) = run.instance.stack()
    assert entry.waits_for.startswith("the condition collects.<locals>.<lambda> (")
    assert entry.waits_for.endswith(f"test_engine_conditions.py:{entry.line})")
    run.evict()


@workflow
async def exits(ctx: Context) -> None:
    looks: list[int] = []

    def predicate() -> bool:
        looks.append(1)
        if len(looks) > 1:
            raise SystemExit(3)
        return False

    await ctx.wait_until(predicate)


def test_a_predicate_that_exits_fails_the_run():
    run = Run(exits)
    assert run.failure.type == "SystemExit"
    run.evict()
