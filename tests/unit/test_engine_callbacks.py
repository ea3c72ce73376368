"""Promises that somebody outside fulfils, in the engine."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from django_durable import ActivityError, Context, DurableError
from django_durable.engine import callbacks
from django_durable.engine.callbacks import Callback
from django_durable.engine.commands import ContinueAsNew
from django_durable.history import codec, events, failures
from tests.unit.engine_harness import STEP, Run, payload, workflow


@workflow
async def asks(ctx: Context) -> Any:
    answer = ctx.callback("approve", returns=int)
    await ctx.activity(STEP, answer.token)
    return await answer


@workflow
async def fails(ctx: Context) -> Any:
    try:
        await ctx.callback("approve")
    except ActivityError as error:
        return [error.activity, error.type, error.timeout]


@workflow
async def many(ctx: Context) -> Any:
    promises = [ctx.callback("vote", returns=str) for _ in range(3)]
    assert len({one.token for one in promises}) == 3
    votes = await asyncio.gather(*promises)
    return [*votes, await promises[0]]


@workflow
async def patient(ctx: Context) -> Any:
    promise = ctx.callback("late")
    try:
        await asyncio.wait_for(promise, 10)
    except TimeoutError:
        return await promise


@workflow
async def other(ctx: Context) -> Any:
    answer = ctx.callback("decline", returns=int)
    await ctx.activity(STEP, answer.token)
    return await answer


@workflow
async def urls(ctx: Context) -> Any:
    promise: Callback[Any] = ctx.callback("x")
    with pytest.raises(DurableError, match=r"django_durable\.urls"):
        assert promise.url
    return repr(promise)


@workflow
async def waits(ctx: Context) -> Any:
    return await ctx.callback("approve")


def test_the_token_is_known_before_the_drain_ends_and_the_same_in_every_replay():
    run = Run(asks)
    [token] = run.pending
    run.complete(token)
    run.fulfil("approve", 5)
    assert run.result() == 5
    [opened] = [one.event for one in run.history if isinstance(one.event, events.CallbackOpened)]
    assert (opened.name, opened.token) == ("approve", token)


def test_it_may_be_fulfilled_before_anybody_waits():
    run = Run(asks)
    [token] = run.pending
    run.fulfil("approve", 5)
    run.complete(token)
    assert run.result() == 5


def test_a_value_of_another_type_is_an_error_where_it_is_awaited():
    run = Run(asks)
    run.fulfil("approve", "five")
    run.complete(next(iter(run.pending)))
    assert run.failure.type == "PayloadError"


def test_a_failure_arrives_as_an_activity_error():
    run = Run(fails)
    failure = failures.Failure(type="TimeoutError", message="late")
    run.apply(events.ActivityFailed(activity=run.callbacks["approve"], failure=failure, timeout="timeout"))
    assert run.result() == ["approve", "TimeoutError", "timeout"]


def test_many_of_one_name_are_told_apart_and_may_be_awaited_often():
    run = Run(many)
    for sequence, value in zip(sorted(run.instance.callbacks, reverse=True), "cba", strict=True):
        run.apply(events.ActivityCompleted(activity=sequence, result=payload(value)))
    assert run.result() == ["a", "b", "c", "a"]


def test_giving_up_to_wait_leaves_the_promise_open():
    run = Run(patient)
    run.fire()
    run.fulfil("late", 1)
    assert run.result() == 1


def test_what_is_fulfilled_already_takes_no_more():
    run = Run(asks)
    sequence = run.callbacks["approve"]
    run.fulfil("approve", 5)
    assert not run.instance.accepts(events.ActivityCompleted(activity=sequence, result=payload(6)))


def test_changed_code_that_asks_for_another_callback_is_found():
    run = Run(asks)
    run.complete(next(iter(run.pending)))
    with pytest.raises(DurableError, match="callback approve"):
        run.replay(other)


def test_without_urls_the_url_says_how_to_get_them(monkeypatch):
    monkeypatch.setattr(callbacks._Source, "make", staticmethod(callbacks._unsigned))
    assert Run(urls).result() == "<callback x>"


def test_the_stack_says_what_is_waited_for():
    [entry] = Run(waits).instance.stack()
    assert entry.waits_for == "callback approve"


# Of the whole chain


@workflow
async def keyed(ctx: Context) -> Any:
    answer = ctx.callback("approve", returns=int, key="order-1", timeout=3600, heartbeat=60)
    same = ctx.callback("approve", returns=int, key="order-1")
    other = ctx.callback("approve", returns=int, key="order-2")
    assert same.token == answer.token != other.token
    await ctx.activity(STEP, "told")
    ctx.continue_as_new()


@workflow
async def awaits_both(ctx: Context) -> Any:
    own = ctx.callback("approve", returns=int)
    answer = ctx.callback("approve", returns=int, key="order-1")
    assert own.token != answer.token
    return [await answer, await own]


@workflow
async def awaits_and_continues(ctx: Context) -> Any:
    await ctx.callback("approve", returns=int, key="order-1")
    ctx.continue_as_new()


@workflow
async def catches_and_continues(ctx: Context) -> Any:
    with contextlib.suppress(ActivityError):
        await ctx.callback("approve", returns=int, key="order-1")
    ctx.continue_as_new()


@workflow
async def opens_many(ctx: Context, count: int) -> Any:
    for number in range(count):
        ctx.callback("vote", key=f"{number}")
        await ctx.sleep(1) if number % 500 == 499 else None
    ctx.continue_as_new(count)


def left(run: Run) -> tuple[events.CarriedCallback, ...]:
    """What a run that has continued as new leaves to the next, after every prefix of its history was replayed."""
    run.check_replay()
    command = run.drain.closing
    assert isinstance(command, ContinueAsNew)
    return command.callbacks


def test_one_with_a_key_is_left_to_the_next_run_with_its_address_and_its_time_limits():
    run = Run(keyed)
    run.complete("told")
    first, second = left(run)
    assert (first.chain_key, second.chain_key) == ("order-1", "order-2")
    [opened, _] = [one.event for one in run.history if isinstance(one.event, events.CallbackOpened)]
    assert (first.name, first.key, first.token) == ("approve", opened.key, opened.token)
    assert (first.timeout, first.heartbeat) == (3_600_000_000, 60_000_000)
    following = Run(awaits_both, callbacks=(first,))
    started = following.history[0].event
    following.evict()
    assert codec.decode("RunStarted", codec.encode(started)) == started


def carried(run: Run, key: str) -> tuple[events.CarriedCallback, ...]:
    return tuple(one for one in left(run) if one.chain_key == key)


def test_the_next_run_can_be_answered_before_its_code_asks_and_tells_it_from_its_own_of_that_name():
    before = Run(keyed)
    before.complete("told")
    run = Run(awaits_both, callbacks=carried(before, "order-1"))
    older, own = sorted(run.instance.callbacks)
    assert older == 2, "it is opened before the code is run"
    run.apply(events.ActivityCompleted(activity=own, result=payload(2)))
    run.apply(events.ActivityCompleted(activity=older, result=payload(1)))
    assert run.result() == [1, 2]


def test_an_answer_that_nobody_has_awaited_is_left_as_well_and_needs_no_place():
    before = Run(keyed)
    first, _ = sorted(before.instance.callbacks)
    before.apply(events.ActivityCompleted(activity=first, result=payload(5)))
    before.complete("told")
    run = Run(awaits_both, callbacks=carried(before, "order-1"))
    [own] = run.instance.callbacks
    run.apply(events.ActivityCompleted(activity=own, result=payload(6)))
    assert run.result() == [5, 6]


def test_a_failure_that_nobody_has_awaited_is_left_as_well():
    before = Run(keyed)
    failure = failures.Failure(type="TimeoutError", message="late")
    before.apply(events.ActivityFailed(activity=min(before.instance.callbacks), failure=failure, timeout="timeout"))
    before.complete("told")
    run = Run(catches_and_continues, callbacks=carried(before, "order-1"))
    assert left(run) == ()


def test_what_has_been_awaited_is_not_left_and_its_key_is_free():
    run = Run(awaits_and_continues)
    run.fulfil("approve", 1)
    assert left(run) == ()


def test_one_that_the_next_run_does_not_ask_for_goes_on_to_the_run_after_it():
    before = Run(keyed)
    before.complete("told")
    both = left(before)
    run = Run(awaits_and_continues, callbacks=both)
    run.apply(events.ActivityCompleted(activity=min(run.instance.callbacks), result=payload(1)))
    assert [one.chain_key for one in left(run)] == ["order-2"]


def test_a_run_has_so_many_of_them_and_no_more():
    run = Run(opens_many, callbacks.CHAIN_LIMIT)
    run.fire()
    run.fire()
    assert len(left(run)) == callbacks.CHAIN_LIMIT
    run = Run(opens_many, callbacks.CHAIN_LIMIT + 1)
    run.fire()
    run.fire()
    assert "can have 1,000 callbacks with a key" in run.failure.message
