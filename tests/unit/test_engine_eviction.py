"""A run leaves memory without its code noticing anything that it could act on, and never comes back."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import warnings
from typing import Any

import pytest

from django_durable.engine.context import Context
from django_durable.engine.instance import Instance
from django_durable.exceptions import WorkflowEvicted
from tests.unit.engine_harness import STEP, Run, collect, workflow

SEEN: list[Any] = []
"""What workflow code tells the tests, out of band."""


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch):
    """Nothing may be printed, warned or run by garbage collection after an eviction."""
    SEEN.clear()
    stray: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", stray.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        before = list(SEEN)
        collect()
    assert before == SEEN, "code ran after the eviction"
    assert stray == []


def _evicted(run: Run) -> Instance:
    commands = len(run.history)
    run.evict()
    run.evict()
    assert len(run.history) == commands
    assert run.instance.activities == {}
    assert run.instance.next_timer() is None
    assert run.instance.waiting() == []
    return run.instance


@workflow
async def cleans_up(ctx: Context) -> None:
    try:
        await ctx.activity(STEP, "a")
    finally:
        SEEN.append(threading.current_thread().name)
        try:
            await ctx.activity(STEP, "clean up")
        except BaseException as error:
            SEEN.append(type(error).__name__)
            raise


def test_finally_blocks_run_at_once_and_reach_nothing():
    run = Run(cleans_up)
    _evicted(run)
    assert SEEN == [threading.current_thread().name, "WorkflowEvicted"]


@workflow
async def uses_everything(ctx: Context) -> None:
    loop = asyncio.get_running_loop()
    log, random = ctx.log, ctx.random
    try:
        await ctx.sleep(5)
    finally:
        for use in (
            lambda: ctx.activity(STEP, "b"),
            ctx.now,
            lambda: ctx.random,
            ctx.uuid4,
            lambda: ctx.side_effect(lambda: 1),
            lambda: ctx.log,
            lambda: ctx.info,
            loop.time,
            loop.create_future,
            lambda: loop.call_soon(print),
            lambda: loop.call_later(1, print),
            lambda: loop.call_at(1, print),
            lambda: loop.run_in_executor(None, print),
        ):
            try:
                use()
            except BaseException as error:
                SEEN.append(type(error))
        for wait in (ctx.sleep(1), ctx.wait_signal("x"), asyncio.sleep(1), asyncio.Event().wait()):
            try:
                await wait
            except BaseException as error:
                SEEN.append(type(error))
        log.error("an evicted run says nothing")
        random.random()


def test_every_call_on_context_and_loop_raises_while_a_run_is_evicted(caplog):
    run = Run(uses_everything)
    run.signal("x")
    caplog.set_level(logging.DEBUG)
    _evicted(run)
    assert SEEN == [WorkflowEvicted] * 17
    assert caplog.records == []


def test_the_running_loop_is_the_workflows_own_during_eviction_and_put_back_afterwards():
    run = Run(looks_at_the_loop)
    _evicted(run)
    assert SEEN == [True]
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


@workflow
async def looks_at_the_loop(ctx: Context) -> None:
    loop = asyncio.get_running_loop()
    try:
        await ctx.sleep(5)
    finally:
        SEEN.append(asyncio.get_running_loop() is loop)


@workflow
async def swallows_everything(ctx: Context) -> str:
    for attempt in range(3):
        try:
            return await ctx.activity(STEP, f"attempt {attempt}")
        except BaseException:
            continue
    await ctx.activity(STEP, "fallback")
    return "fallback"


def test_code_that_swallows_everything_gets_no_command_through():
    _evicted(Run(swallows_everything))


@workflow
async def never_gives_up(ctx: Context) -> None:
    while True:
        try:
            await ctx.sleep(1)
        except BaseException:
            SEEN.append("again")


@workflow
async def never_gives_up_on_asyncio(ctx: Context) -> None:
    while True:
        try:
            await asyncio.sleep(1)
        except BaseException:
            SEEN.append("again")


@workflow
async def never_gives_up_on_tasks(ctx: Context) -> None:
    while True:
        try:
            await asyncio.gather(ctx.activity(STEP, "a"), ctx.wait_signal("b"))
        except BaseException:
            SEEN.append("again")


@workflow
async def never_gives_up_on_signals(ctx: Context) -> None:
    while True:
        try:
            await ctx.wait_signal("b", timeout=3)
        except BaseException:
            SEEN.append("again")


@workflow
async def never_gives_up_further_in(ctx: Context) -> None:
    async def inner() -> None:
        while True:
            try:
                await ctx.activity(STEP, "a")
            except BaseException:
                SEEN.append("again")

    await inner()


@pytest.mark.parametrize(
    "definition",
    [
        never_gives_up,
        never_gives_up_further_in,
        never_gives_up_on_asyncio,
        never_gives_up_on_tasks,
        never_gives_up_on_signals,
    ],
    ids=lambda definition: definition.__name__,
)
def test_code_that_loops_on_every_exception_comes_to_rest_and_is_reported(definition, caplog):
    run = Run(definition)
    _evicted(run)
    assert 0 < len(SEEN) < 1_000
    assert "goes on after every exception" in caplog.text
    assert __file__ in caplog.text


@workflow
async def many_tasks(ctx: Context) -> None:
    async def one(label: str) -> None:
        try:
            await ctx.activity(STEP, label)
        finally:
            SEEN.append(label)

    tasks = [asyncio.create_task(one(label)) for label in "abc"]
    try:
        await asyncio.wait(tasks)
    finally:
        SEEN.append("body")


def test_tasks_are_closed_in_the_order_in_which_they_began():
    _evicted(Run(many_tasks))
    assert SEEN == ["body", "a", "b", "c"]


@workflow
async def in_a_group(ctx: Context) -> None:
    try:
        async with asyncio.TaskGroup() as group, asyncio.timeout(60):
            group.create_task(ctx.activity(STEP, "a"))
            await asyncio.gather(ctx.activity(STEP, "b"), asyncio.shield(ctx.sleep(5)))
    finally:
        SEEN.append("closed")


@workflow
async def gathers_to_clean_up(ctx: Context) -> None:
    async def release(label: str) -> None:
        await ctx.activity(STEP, label)

    try:
        await ctx.sleep(5)
    finally:
        await asyncio.gather(*(release(label) for label in "abc"))


def test_coroutines_that_a_finally_block_gathers_leave_no_warning_behind():
    _evicted(Run(gathers_to_clean_up))


def test_groups_gathers_and_limits_are_closed_too():
    _evicted(Run(in_a_group))
    assert SEEN == ["closed"]


@workflow
async def with_generators(ctx: Context) -> None:
    async def numbers(name: str) -> Any:
        try:
            for number in range(5):
                yield number
                await ctx.sleep(1)
        finally:
            SEEN.append(name)

    abandoned = numbers("abandoned")
    await anext(abandoned)
    del abandoned
    async for _ in numbers("iterated"):
        pass


def test_asynchronous_generators_are_closed_with_the_run_not_by_garbage_collection():
    run = Run(with_generators)
    collect()
    assert SEEN == []
    _evicted(run)
    assert sorted(SEEN) == ["abandoned", "iterated"]


@workflow
async def stubborn_generator(ctx: Context) -> None:
    async def numbers() -> Any:
        while True:
            try:
                yield 1
            except BaseException:
                SEEN.append("again")

    generator = numbers()
    await anext(generator)
    await ctx.sleep(1)


def test_a_generator_that_cannot_be_closed_is_reported(caplog):
    _evicted(Run(stubborn_generator))
    assert SEEN == ["again"]
    assert __file__ in caplog.text


async def _helper(ctx: Context) -> None:
    await ctx.sleep(1)


@workflow
async def has_calls_left(ctx: Context) -> None:
    later = [_helper(ctx), _helper(ctx)]
    named = {"later": ctx.activity(STEP, "later")}
    await ctx.activity(STEP, "a")
    await asyncio.gather(*later, named["later"])


@workflow
async def has_calls_left_on_its_stack(ctx: Context) -> None:
    await asyncio.gather(_helper(ctx), _helper(ctx), await ctx.activity(STEP, "a"))  # type: ignore[call-overload]


def test_coroutines_that_were_not_awaited_yet_leave_without_a_warning():
    _evicted(Run(has_calls_left))
    _evicted(Run(has_calls_left_on_its_stack))


@workflow
async def orphans(ctx: Context) -> None:
    async def orphan() -> None:
        try:
            await asyncio.get_running_loop().create_future()  # nobody else holds it
        finally:
            SEEN.append("orphan")

    asyncio.create_task(orphan())  # noqa: RUF006
    await ctx.activity(STEP, "a")


def test_tasks_that_nobody_holds_live_until_the_eviction():
    run = Run(orphans)
    collect()
    assert SEEN == []
    run.complete("a")
    collect()
    assert SEEN == []
    _evicted(run)
    assert SEEN == ["orphan"]


@workflow
async def fails_unseen(ctx: Context) -> None:
    async def failing() -> None:
        raise ValueError("unseen")

    asyncio.create_task(failing())  # noqa: RUF006
    await ctx.activity(STEP, "a")


def test_failures_that_nobody_has_seen_are_not_reported_by_an_eviction(caplog):
    _evicted(Run(fails_unseen))
    collect()
    assert caplog.records == []


def test_an_instance_that_never_started_can_be_evicted():
    run = Run(cleans_up)
    run.evict()
    instance = run.replay()
    instance.evict()
    assert not instance.accepts(run.history[0].event)


def test_eviction_works_inside_a_running_loop():
    async def main() -> None:
        run = Run(cleans_up)
        assert asyncio.get_running_loop() is loop
        run.evict()
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    assert SEEN[-1] == "WorkflowEvicted"
