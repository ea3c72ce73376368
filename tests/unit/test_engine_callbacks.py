"""Promises that somebody outside fulfils, in the engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from django_durable import ActivityError, Context, DurableError
from django_durable.engine import callbacks
from django_durable.engine.callbacks import Callback
from django_durable.history import events, failures
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
