"""Time, random numbers and side effects are the same in every replay."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import logging
import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_durable.engine.context import Context
from django_durable.exceptions import NonDeterminismError
from django_durable.history import events
from tests.unit.engine_harness import INFO, START, STEP, Run, workflow


@workflow
async def draws(ctx: Context) -> list[Any]:
    values = [ctx.random.random(), ctx.random.randrange(10**9), str(ctx.uuid4())]
    await ctx.activity(STEP, "a")
    values += [ctx.random.random(), str(ctx.uuid4())]
    return values


def test_random_numbers_come_from_the_seed():
    results = []
    for seed in (1, 1, 2):
        run = Run(draws, seed=seed)
        run.complete("a")
        results.append(run.result())
    assert results[0] == results[1]
    assert not set(results[0]) & set(results[2])
    assert len(set(results[0])) == 5
    assert uuid.UUID(results[0][2]).version == 4


@workflow
async def draws_only_uuids(ctx: Context, numbers: int) -> str:
    for _ in range(numbers):
        ctx.random.random()
    return str(ctx.uuid4())


def test_uuids_do_not_depend_on_the_numbers_drawn_before():
    assert Run(draws_only_uuids, 0).result() == Run(draws_only_uuids, 5).result()


def test_the_worlds_random_state_is_left_alone():
    random.seed(5)
    before = random.getstate()
    Run(draws).evict()
    assert random.getstate() == before


@workflow
async def looks_at_the_time(ctx: Context) -> list[str]:
    first = ctx.now()
    await ctx.activity(STEP, "a")
    second = ctx.now()
    await ctx.sleep(timedelta(hours=1))
    assert ctx.now().tzinfo is UTC
    return [moment.isoformat() for moment in (first, second, ctx.now())]


def test_now_is_the_time_of_the_event():
    run = Run(looks_at_the_time)
    run.complete("a", after=90)
    run.fire()
    at = [START, START + timedelta(seconds=90), START + timedelta(seconds=90, hours=1)]
    assert run.result() == [moment.isoformat() for moment in at]


CALLS: list[int] = []


def next_number() -> int:
    CALLS.append(1)
    return len(CALLS)


def a_moment() -> datetime:
    return datetime(2020, 1, 1, tzinfo=UTC)


@workflow
async def has_side_effects(ctx: Context) -> list[Any]:
    values: list[Any] = [ctx.side_effect(next_number), ctx.side_effect(next_number)]
    await ctx.activity(STEP, "a")
    values.append(ctx.side_effect(next_number))
    assert isinstance(ctx.side_effect(a_moment), datetime)
    pair: Any = ctx.side_effect(lambda: (1, 2))
    assert pair == [1, 2]  # as it is stored
    await ctx.activity(STEP, "b")
    return values


def test_a_side_effect_is_called_once_and_read_from_history_afterwards():
    CALLS.clear()
    run = Run(has_side_effects)
    run.complete("a")
    replayed = run.replay()
    assert len(CALLS) == 3
    drain = replayed.apply(
        events.ActivityCompleted(activity=run.pending["b"], result=STEP.encode_result("b")), run.time
    )
    assert drain.closing is not None
    assert drain.closing.event() == events.RunCompleted(result=run.definition.encode_result([1, 2, 3]))
    replayed.evict()
    run.evict()


async def one_more_side_effect(ctx: Context) -> list[Any]:
    values: list[Any] = [ctx.side_effect(next_number) for _ in range(2)]
    try:
        values.append(ctx.side_effect(next_number))
    except BaseException:
        values.append(0)
    await ctx.activity(STEP, "a")
    return values


def test_a_side_effect_that_history_does_not_hold_is_a_difference_that_cannot_be_swallowed():
    CALLS.clear()
    run = Run(has_side_effects)
    run.complete("a")
    with pytest.raises(NonDeterminismError) as caught:
        run.replay(workflow(one_more_side_effect))
    assert len(CALLS) == 3
    assert caught.value.requested == "a side effect"
    assert caught.value.where == f"{__file__}:{one_more_side_effect.__code__.co_firstlineno + 3}"
    run.evict()


async def one_less_side_effect(ctx: Context) -> None:
    ctx.side_effect(next_number)
    await ctx.activity(STEP, "a")


def test_a_side_effect_that_is_no_longer_asked_for_is_a_difference():
    run = Run(has_side_effects)
    run.complete("a")
    with pytest.raises(NonDeterminismError) as caught:
        run.replay(workflow(one_less_side_effect))
    assert caught.value.event == 3
    assert "side effect" in caught.value.recorded
    run.evict()


def breaks() -> int:
    raise OSError("no such file")


@workflow
async def side_effect_breaks(ctx: Context) -> str:
    await ctx.activity(STEP, "a")
    try:
        ctx.side_effect(breaks)
    except BaseException:
        return await ctx.activity(STEP, "swallowed")
    return "done"


def test_a_side_effect_that_raises_fails_the_run_in_replays_too():
    run = Run(side_effect_breaks)
    run.complete("a")
    assert run.failure.type == "OSError"
    assert run.commands == ["FailRun"]
    assert run.replay().closed
    run.evict()


async def asynchronous() -> int:
    return 1


@workflow
async def asynchronous_side_effect(ctx: Context) -> None:
    ctx.side_effect(asynchronous)  # type: ignore[unused-coroutine]


@workflow
async def unstorable_side_effect(ctx: Context) -> None:
    ctx.side_effect(object)


@pytest.mark.parametrize(
    ("definition", "type"),
    [(asynchronous_side_effect, "DefinitionError"), (unstorable_side_effect, "PayloadError")],
)
def test_what_can_be_no_side_effect_fails_the_run(definition, type):
    run = Run(definition)
    assert run.failure.type == type
    run.evict()


@workflow
async def logs(ctx: Context) -> None:
    log = ctx.log
    log.info("before %s", "a", extra={"step": 1})
    await ctx.activity(STEP, "a")
    log.warning("after a")
    await ctx.activity(STEP, "b")


def test_log_lines_are_written_once(caplog):
    caplog.set_level(logging.INFO)
    run = Run(logs)
    run.complete("a")
    assert [record.message for record in caplog.records] == ["before a", "after a"]
    first = caplog.records[0]
    assert (first.workflow_id, first.run_id, first.step) == (INFO.workflow_id, str(INFO.run_id), 1)
    replayed = run.replay()
    assert len(caplog.records) == 2
    replayed.apply(events.CancelRequested(), run.time)
    replayed.evict()
    run.evict()


@workflow
async def informs(ctx: Context) -> list[Any]:
    first = ctx.info
    await ctx.activity(STEP, "a")
    return [first.events, ctx.info.events, first.workflow_id, str(first.run_id), first.attempt]


def test_info_counts_events_alike_in_replays():
    run = Run(informs)
    run.complete("a")
    assert run.result() == [1, 3, INFO.workflow_id, str(INFO.run_id), 1]


VARIABLE: Any = contextvars.ContextVar("VARIABLE", default="fresh")


@workflow
async def has_context_variables(ctx: Context) -> list[Any]:
    seen = [VARIABLE.get(), decimal.getcontext().prec]
    VARIABLE.set("mine")
    await ctx.activity(STEP, "a")

    async def child() -> Any:
        VARIABLE.set("the child's")
        return VARIABLE.get()

    return [*seen, await asyncio.create_task(child()), VARIABLE.get()]


def test_context_variables_are_the_runs_own():
    token = VARIABLE.set("the worker's")
    try:
        with decimal.localcontext(prec=3):
            run = Run(has_context_variables)
            run.complete("a")
            assert run.result() == ["fresh", decimal.DefaultContext.prec, "the child's", "mine"]
        assert VARIABLE.get() == "the worker's"
    finally:
        VARIABLE.reset(token)
