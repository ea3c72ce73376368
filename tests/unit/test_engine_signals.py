"""Signals are kept until somebody takes them, and none is ever lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from django_durable.definitions.signal import SignalDefinition
from django_durable.engine.context import Context
from django_durable.engine.loop import DeterministicLoop
from django_durable.engine.recorder import Recorder
from django_durable.engine.signals import Signals
from django_durable.history import events
from tests.unit.engine_harness import START, STEP, Run, payload, workflow

RATED: SignalDefinition[int] = SignalDefinition("rated", int)


@workflow
async def takes_two(ctx: Context) -> list[Any]:
    await ctx.activity(STEP, "a")
    return [await ctx.wait_signal("word"), await ctx.wait_signal("word")]


def test_signals_that_come_early_are_kept_in_order():
    run = Run(takes_two)
    run.signal("word", "first")
    run.signal("word", "second")
    run.complete("a")
    assert run.result() == ["first", "second"]


def test_a_signal_wakes_who_waits_for_it():
    run = Run(takes_two)
    run.complete("a")
    run.signal("word", "first")
    run.signal("word", {"second": [1, 2]})
    assert run.result() == ["first", {"second": [1, 2]}]


@workflow
async def rates(ctx: Context) -> int:
    return await ctx.wait_signal(RATED) + 1


def test_a_declared_signal_is_read_as_its_type():
    run = Run(rates)
    run.signal("rated", 4)
    assert run.result() == 5


def test_a_payload_of_another_type_is_an_error_where_it_is_awaited():
    run = Run(rates)
    run.signal("rated", "very good")
    assert run.failure.type == "PayloadError"
    assert "rated" in run.failure.message
    run.check_replay()


@workflow
async def waits_a_while(ctx: Context) -> str:
    try:
        return str(await ctx.wait_signal("go", timeout=timedelta(days=14)))
    except TimeoutError as error:
        return f"timeout: {error}"


def test_a_wait_times_out():
    run = Run(waits_a_while)
    run.fire()
    assert run.result() == "timeout: No signal 'go' came within 14 days, 0:00:00."


def test_a_signal_in_time_cancels_the_timer():
    run = Run(waits_a_while)
    run.signal("go", "now")
    assert run.commands == ["CancelTimer", "CompleteRun"]
    assert run.result() == "now"


@workflow
async def looks_once(ctx: Context) -> list[str]:
    await ctx.activity(STEP, "a")
    seen = []
    for _ in range(2):
        try:
            seen.append(await ctx.wait_signal("go", timeout=0))
        except TimeoutError:
            seen.append("nothing")
    return seen


def test_no_timeout_at_all_takes_what_is_there():
    run = Run(looks_once)
    run.signal("go", "x")
    run.complete("a")
    assert run.result() == ["x", "nothing"]


@workflow
async def several_wait(ctx: Context) -> list[str]:
    async def waiter(name: str) -> str:
        return name + str(await ctx.wait_signal("next"))

    return await asyncio.gather(*(waiter(name) for name in "abc"))


def test_waiters_are_served_in_the_order_in_which_they_began():
    run = Run(several_wait)
    for value in "123":
        run.signal("next", value)
    assert run.result() == ["a1", "b2", "c3"]


@workflow
async def cancelled_waiter(ctx: Context) -> list[Any]:
    waiting = asyncio.create_task(ctx.wait_signal("word"))
    await ctx.activity(STEP, "a")
    waiting.cancel()
    await asyncio.wait([waiting])
    return [waiting.cancelled(), await ctx.wait_signal("word")]


def test_a_cancelled_waiter_does_not_take_a_signal():
    run = Run(cancelled_waiter)
    run.complete("a")
    run.signal("word", "kept")
    assert run.result() == [True, "kept"]


def test_a_signal_given_to_a_waiter_that_cannot_take_it_goes_to_the_next_or_back_to_the_front():
    recorder = Recorder()
    loop = DeterministicLoop(seed=7, started=START, recorder=recorder)  # type: ignore[abstract]
    signals = Signals(loop, recorder)
    victim, heir, second = (loop.create_future() for _ in range(3))
    for waiter in (victim, heir, second):
        signals.wait("word", waiter)
    signals.receive("word", payload("one"))
    signals.leave("word", victim)
    assert heir.result().payload == payload("one")

    signals.leave("word", second)
    signals.receive("word", payload("two"))
    signals.leave("word", heir)
    assert signals.unhandled() == ("word", "word")
    assert [signals.take("word"), signals.take("word")] == [(1, "word", payload("one")), (2, "word", payload("two"))]
    assert signals.take("word") is None


@workflow
async def ends(ctx: Context) -> None:
    await ctx.wait_signal("stop")


def test_signals_that_nobody_took_are_named_in_the_order_of_arrival():
    run = Run(ends)
    for name in ("b", "a", "b", "stop"):
        run.signal(name)
    closing = run.closing
    assert isinstance(closing, events.RunCompleted)
    assert closing.unhandled == ("b", "a", "b")
    run.check_replay()


@workflow
async def waits_inside_a_limit(ctx: Context) -> list[Any]:
    try:
        first = await asyncio.wait_for(ctx.wait_signal("go"), 10)
    except TimeoutError:
        first = None
    return [first, await ctx.wait_signal("go")]


def test_wait_for_works_on_signals():
    run = Run(waits_inside_a_limit)
    run.fire()
    run.signal("go", 1)
    assert run.result() == [None, 1]
