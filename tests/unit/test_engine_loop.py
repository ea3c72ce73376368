"""The loop of a workflow: what it refuses, its timers, and its manners towards other loops."""

from __future__ import annotations

import asyncio
import socket
import sys
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_durable.engine.context import Context
from django_durable.engine.tasks import mix
from django_durable.history import events
from tests.unit.engine_harness import START, STEP, Run, workflow


async def in_thread() -> None:
    await asyncio.to_thread(print)


async def in_executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, print)


async def on_the_network() -> None:
    await asyncio.open_connection("localhost", 80)


async def as_a_server() -> None:
    await asyncio.start_server(lambda reader, writer: None, "localhost", 0)


async def on_a_socket() -> None:
    with socket.socket() as plain:
        await asyncio.get_running_loop().sock_recv(plain, 1)


async def in_a_process() -> None:
    await asyncio.create_subprocess_exec("true")


async def in_a_shell() -> None:
    await asyncio.create_subprocess_shell("true")


async def with_a_reader() -> None:
    asyncio.get_running_loop().add_reader(0, print)


async def with_a_signal() -> None:
    asyncio.get_running_loop().add_signal_handler(2, print)


async def from_a_thread() -> None:
    asyncio.get_running_loop().call_soon_threadsafe(print)


async def by_stopping() -> None:
    asyncio.get_running_loop().stop()


@workflow
async def does(ctx: Context, name: str) -> None:
    await WAYS[name]()


WAYS = {
    way.__name__: way
    for way in (
        in_thread,
        in_executor,
        on_the_network,
        as_a_server,
        on_a_socket,
        in_a_process,
        in_a_shell,
        with_a_reader,
        with_a_signal,
        from_a_thread,
        by_stopping,
    )
}
ELSEWHERE = {"with_a_signal": "signal_workflow", "from_a_thread": "signal_workflow", "by_stopping": "worker"}


@pytest.mark.parametrize("name", WAYS)
def test_what_cannot_be_replayed_is_refused_with_the_right_way(name):
    run = Run(does, name)
    assert run.failure.type == "UnsupportedInWorkflow"
    assert ELSEWHERE.get(name, "Do it in an activity") in run.failure.message
    run.check_replay()


@workflow
async def asks_the_loop(ctx: Context) -> list[Any]:
    loop = asyncio.get_running_loop()
    return [loop.is_running(), loop.is_closed(), loop.get_debug(), loop is asyncio.get_event_loop()]


def test_the_loop_answers_what_asyncio_asks():
    assert Run(asks_the_loop).result() == [True, False, False, True]


@workflow
async def waits(ctx: Context) -> str:
    return await ctx.activity(STEP, "a")


def test_a_workflow_can_be_applied_inside_a_running_loop_and_task():
    async def main() -> Any:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        hooks = sys.get_asyncgen_hooks()
        run = Run(waits)
        await asyncio.sleep(0)
        run.complete("a")
        assert asyncio.current_task() is task
        assert asyncio.get_running_loop() is loop
        assert sys.get_asyncgen_hooks() == hooks
        return run.result()

    assert asyncio.run(main()) == "a"


def test_runs_in_one_thread_do_not_meet():
    runs = [Run(waits) for _ in range(20)]
    for run in reversed(runs):
        run.complete("a")
    assert {run.result() for run in runs} == {"a"}


@workflow
async def leaks_its_context(ctx: Context) -> None:
    LEAKED.append(ctx)
    await ctx.activity(STEP, "a")


LEAKED: list[Context] = []


@workflow
async def uses_a_leaked_context(ctx: Context) -> None:
    await LEAKED[-1].activity(STEP, "b")


def test_a_context_cannot_be_used_by_another_run():
    owner = Run(leaks_its_context)
    run = Run(uses_a_leaked_context)
    assert run.failure.type == "UnsupportedInWorkflow"
    assert "another run" in run.failure.message
    assert list(owner.pending) == ["a"]
    owner.evict()
    run.evict()


# Timers


@workflow
async def starts_timers(ctx: Context, durations: list[float]) -> list[float]:
    order: list[float] = []

    async def one(duration: float) -> None:
        await ctx.sleep(duration)
        order.append(duration)

    await asyncio.gather(*(one(duration) for duration in durations))
    return order


def test_timers_fire_in_the_order_in_which_they_are_due_then_in_that_of_their_start():
    run = Run(starts_timers, [5.0, 3.0, 5.0, 1.0])
    assert run.instance.next_timer() == (START + timedelta(seconds=1), 5)
    fired = []
    while (following := run.instance.next_timer()) is not None:
        fired.append(following[1])
        run.fire()
    assert fired == [5, 3, 2, 4]
    assert run.result() == [1.0, 3.0, 5.0, 5.0]


@workflow
async def cancels_many(ctx: Context) -> int:
    for number in range(300):
        try:
            await asyncio.wait_for(ctx.wait_signal("go"), 1_000 + number)
        except TimeoutError:
            return number
    return 300


def test_cancelled_timers_do_not_pile_up():
    run = Run(cancels_many)
    for _ in range(250):
        run.signal("go")
    heap = run.instance._running.loop.timers._heap
    assert len(heap) < 100
    assert run.instance.next_timer() == (run.time + timedelta(seconds=1_250), run.instance.sequence)
    run.fire()
    assert isinstance(run.closing, events.RunCompleted)
    assert run.closing.result == run.definition.encode_result(250)
    assert run.replay().closed
    run.evict()


@workflow
async def cancels_within_a_drain(ctx: Context) -> str:
    async with asyncio.timeout(60):
        await asyncio.sleep(0)
    handle = asyncio.get_running_loop().call_later(5, print)
    handle.cancel()
    handle.cancel()
    return await ctx.activity(STEP, "a")


def test_a_timer_that_ends_in_its_own_drain_leaves_no_trace():
    run = Run(cancels_within_a_drain)
    assert run.commands == ["ScheduleActivity"]
    run.complete("a")
    assert run.result() == "a"


@workflow
async def cancels_after_it_fired(ctx: Context) -> str:
    handle = asyncio.get_running_loop().call_later(5, int)
    await ctx.sleep(10)
    handle.cancel()
    return await ctx.activity(STEP, "a")


def test_cancelling_a_timer_that_fired_is_no_command():
    run = Run(cancels_after_it_fired)
    run.fire()
    run.fire()
    assert run.commands == ["ScheduleActivity"]
    run.complete("a")
    assert run.result() == "a"


@workflow
async def sleeps_until_a_deadline(ctx: Context, seconds: float) -> int:
    loop, looks = asyncio.get_running_loop(), 0
    deadline = loop.time() + seconds
    while loop.time() < deadline:
        looks += 1
        await asyncio.sleep(deadline - loop.time())
    return looks


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_a_sleep_until_a_deadline_comes_to_an_end(seconds):
    run = Run(sleeps_until_a_deadline, seconds)
    while run.instance.next_timer() is not None:
        run.fire()
    assert isinstance(run.closing, events.RunCompleted)
    assert run.kinds.count("TimerFired") <= 2
    run.evict()


@pytest.mark.parametrize("seconds", ["inf", "nan", 1e18])
def test_a_timer_that_can_never_be_due_is_an_error(seconds):
    run = Run(sleeps, seconds)
    assert run.failure.type == "ValueError"
    assert "timer cannot" in run.failure.message
    run.check_replay()


@workflow
async def sleeps(ctx: Context, seconds: Any) -> None:
    await ctx.sleep(float(seconds))


def test_due_times_are_utc_and_exact_to_the_microsecond():
    run = Run(starts_timers, [0.000001])
    following = run.instance.next_timer()
    assert following is not None
    due, _ = following
    assert due == START + timedelta(microseconds=1)
    assert isinstance(due, datetime)
    assert due.utcoffset() == timedelta(0)
    run.fire()
    assert run.result() == [0.000001]


# Hashes


def test_hashes_of_tasks_depend_on_seed_and_ordinal_only_and_do_not_collide():
    assert mix(7, 1) == mix(7, 1)
    numbers = {mix(seed, ordinal) for seed in range(200) for ordinal in range(200)}
    assert len(numbers) == 200 * 200
    assert all(0 <= number < 2**64 for number in numbers)
