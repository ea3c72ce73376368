"""A request to cancel arrives wherever a workflow waits, once, and takes along what it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from django_durable.engine.context import Context
from tests.unit.engine_harness import STEP, Run, workflow


async def _lock(ctx: Context) -> None:
    lock = asyncio.Lock()
    await lock.acquire()
    await lock.acquire()


async def _condition(ctx: Context) -> None:
    condition = asyncio.Condition()
    async with condition:
        await condition.wait()


async def _semaphore(ctx: Context) -> None:
    async with asyncio.Semaphore(0):
        pass


async def _group(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.activity(STEP, "a"))
        group.create_task(ctx.sleep(5))


async def _time_limit(ctx: Context) -> None:
    async with asyncio.timeout(60):
        await ctx.activity(STEP, "a")


async def _as_completed(ctx: Context) -> None:
    tasks = [asyncio.create_task(ctx.activity(STEP, label)) for label in "ab"]
    try:
        for task in asyncio.as_completed(tasks):
            await task
    finally:
        for one in tasks:
            one.cancel()


WAITS: dict[str, Callable[[Context], Any]] = {
    "activity": lambda ctx: ctx.activity(STEP, "a"),
    "sleep": lambda ctx: ctx.sleep(60),
    "asyncio.sleep": lambda ctx: asyncio.sleep(60),
    "signal": lambda ctx: ctx.wait_signal("go", timeout=60),
    "condition": lambda ctx: ctx.wait_until(lambda: False, timeout=60),
    "handlers": lambda ctx: asyncio.Event().wait(),
    "queue": lambda ctx: asyncio.Queue[int]().get(),
    "lock": _lock,
    "asyncio.Condition": _condition,
    "semaphore": _semaphore,
    "gather": lambda ctx: asyncio.gather(ctx.activity(STEP, "a"), ctx.sleep(5)),
    "group": _group,
    "wait_for": lambda ctx: asyncio.wait_for(ctx.activity(STEP, "a"), 60),
    "timeout": _time_limit,
    "as_completed": _as_completed,
    "map": lambda ctx: ctx.map(STEP, ["a", "b", "c"], max_concurrency=2),
    "parallel": lambda ctx: ctx.parallel([ctx.activity(STEP, "a"), ctx.sleep(60)]),
    "future": lambda ctx: asyncio.get_running_loop().create_future(),
}


@workflow
async def waits(ctx: Context, what: str) -> str:
    try:
        await WAITS[what](ctx)
    except asyncio.CancelledError as error:
        reason = error.args[0] if error.args else ""
        await ctx.activity(STEP, f"clean up: {reason}")
        raise
    return "not cancelled"


@pytest.mark.parametrize("what", list(WAITS))
def test_cancellation_reaches_every_kind_of_wait(what):
    run = Run(waits, what)
    run.cancel("enough")
    assert list(run.pending) == ["clean up: enough"], "and nothing else is left"
    assert run.instance.next_timer() is None
    run.cancel("a second time")
    assert run.commands == []
    run.complete("clean up: enough")
    assert run.kinds[-1] == "RunCancelled"
    run.check_replay()


@workflow
async def shields(ctx: Context) -> list[str]:
    task = asyncio.create_task(ctx.activity(STEP, "precious"))
    seen = []
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        seen.append("cut short")
    seen.append(await task)
    return seen


def test_what_is_shielded_goes_on():
    run = Run(shields)
    run.cancel()
    assert list(run.pending) == ["precious"]
    run.complete("precious")
    assert run.result() == ["cut short", "precious"]


@workflow
async def cleans_up_in_layers(ctx: Context) -> None:
    try:
        try:
            await ctx.activity(STEP, "a")
        finally:
            await ctx.activity(STEP, "inner")
    finally:
        async with asyncio.timeout(60):
            await ctx.activity(STEP, "outer")


def test_cleanup_may_wait_in_every_layer_and_have_a_time_limit():
    run = Run(cleans_up_in_layers)
    run.cancel("enough")
    run.complete("inner")
    run.complete("outer")
    assert run.kinds[-1] == "RunCancelled"
    run.check_replay()


def test_cleanup_whose_time_is_up_fails_the_run():
    run = Run(cleans_up_in_layers)
    run.cancel("enough")
    run.complete("inner")
    run.fire()
    assert run.failure.type == "TimeoutError"
    run.check_replay()


@workflow
async def fails_to_clean_up(ctx: Context) -> None:
    try:
        await ctx.sleep(60)
    finally:
        await ctx.activity(STEP, "clean up")


def test_cleanup_that_fails_is_the_runs_failure():
    run = Run(fails_to_clean_up)
    run.cancel()
    run.fail("clean up", "stuck")
    assert run.failure.message == "stuck"
    assert run.failure.cause is not None


@workflow
async def uncancels(ctx: Context) -> list[str]:
    seen = []
    for number in range(3):
        try:
            await ctx.activity(STEP, str(number))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            seen.append(str(error))
    return seen


def test_code_that_deals_with_a_request_can_be_asked_again():
    run = Run(uncancels)
    run.cancel("one")
    run.cancel("two")
    run.complete("2")
    assert run.result() == ["one", "two"]


@workflow
async def cancels_a_scope(ctx: Context) -> list[str]:
    """A part of the workflow is given up; the rest is not touched."""
    seen: list[str] = []

    async def part() -> None:
        with ctx.scope("part"):
            try:
                await ctx.map(STEP, ["a", "b"])
            finally:
                seen.append("given up")
                await ctx.activity(STEP, "tidy")

    task = asyncio.create_task(part())
    await ctx.wait_signal("stop")
    task.cancel()
    seen.append(await ctx.activity(STEP, "other"))
    await asyncio.wait([task])
    return [*seen, str(task.cancelled())]


def test_a_part_can_be_cancelled_alone():
    run = Run(cancels_a_scope)
    run.signal("stop")
    run.complete("other")
    run.complete("tidy")
    assert run.result() == ["given up", "other", "True"]
