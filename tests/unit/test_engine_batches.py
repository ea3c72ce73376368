"""``map`` and ``parallel``: many calls, so many at a time, their outcomes in order."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import warnings
from typing import Any

import pytest

from django_durable.definitions.activity import ActivityDefinition
from django_durable.engine.batches import BatchResult
from django_durable.engine.context import Context
from django_durable.exceptions import BatchError
from tests.unit.engine_harness import STEP, Run, workflow


@pytest.fixture(autouse=True)
def _nothing_is_left_unawaited():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()


def told(batch: BatchResult[Any]) -> list[str]:
    return [f"{one.status} {one.result or one.error or ''}".strip() for one in batch]


@workflow
async def maps(ctx: Context, labels: list[str], limits: dict[str, Any]) -> list[str]:
    return told(await ctx.map(STEP, labels, **limits))


def test_results_come_in_the_order_of_the_items():
    run = Run(maps, ["a", "b", "c"], {})
    assert list(run.pending) == ["a", "b", "c"]
    for label in "cab":
        run.complete(label)
    assert run.result() == ["succeeded a", "succeeded b", "succeeded c"]


def test_no_more_than_so_many_are_under_way():
    run = Run(maps, list("abcde"), {"max_concurrency": 2})
    assert list(run.pending) == ["a", "b"]
    run.complete("b")
    assert list(run.pending) == ["a", "c"]
    run.fail("c")
    assert list(run.pending) == ["a", "d"]
    for label in "ade":
        run.complete(label)
    assert run.result() == ["succeeded a", "succeeded b", "failed broken", "succeeded d", "succeeded e"]


def test_without_limits_a_failure_stops_nobody():
    run = Run(maps, ["a", "b"], {})
    run.fail("a")
    run.complete("b")
    assert run.result() == ["failed broken", "succeeded b"]


def test_one_failure_too_many_cancels_the_rest():
    run = Run(maps, list("abcde"), {"max_concurrency": 3, "tolerated_failures": 1})
    run.fail("a")
    run.complete("b")
    run.fail("c")
    assert run.commands == ["CancelActivity", "CancelActivity", "CompleteRun"]
    assert run.result() == ["failed broken", "succeeded b", "failed broken", "cancelled", "cancelled"]


def test_a_batch_stops_when_enough_cannot_succeed_any_more():
    run = Run(maps, list("abcd"), {"min_successful": 3})
    run.fail("a")
    run.complete("b")
    assert not run.instance.closed
    run.fail("c")
    assert run.result() == ["failed broken", "succeeded b", "failed broken", "cancelled"]


def test_a_batch_that_cannot_succeed_begins_nothing():
    run = Run(maps, ["a", "b"], {"min_successful": 3})
    assert run.commands == ["CompleteRun"]
    assert run.result() == ["cancelled", "cancelled"]


def test_nothing_to_do_is_done_at_once():
    assert Run(maps, [], {"max_concurrency": 3}).result() == []


def test_a_thousand_at_a_time_unless_told_otherwise():
    run = Run(maps, [str(number) for number in range(2_500)], {})
    assert len(run.pending) == 1_000
    run.complete("0")
    assert len(run.pending) == 1_000
    run.evict()


@pytest.mark.parametrize(
    "limits", [{"max_concurrency": 0}, {"min_successful": -1}, {"tolerated_failures": -1}, {"max_concurrency": 2.5}]
)
def test_limits_that_make_no_sense_are_refused(limits):
    run = Run(maps, ["a"], limits)
    assert run.failure.type == "ValueError"
    assert next(iter(limits)) in run.failure.message


@workflow
async def sums(ctx: Context, labels: list[str], limits: dict[str, int]) -> Any:
    batch = await ctx.map(STEP, labels, **limits)
    try:
        batch.raise_if_failed()
    except BatchError as error:
        return [str(error), str(error.cause), len(error.errors)]
    return [batch.results, [str(error) for error in batch.errors], len(batch.succeeded), len(batch.failed), len(batch)]


def test_without_limits_any_failure_fails_the_batch():
    run = Run(sums, ["a", "b"], {})
    run.complete("a")
    run.fail("b")
    assert run.result() == ["1 of 2 have failed. The first: ActivityError: broken", "broken", 1]


def test_tolerated_failures_do_not_fail_the_batch():
    run = Run(sums, ["a", "b", "c"], {"tolerated_failures": 1})
    run.complete("c")
    run.fail("b")
    run.complete("a")
    assert run.result() == [["a", None, "c"], ["broken"], 2, 1, 3]


def test_a_lost_batch_says_which_limit_it_broke():
    run = Run(sums, ["a", "b", "c"], {"tolerated_failures": 0, "min_successful": 2})
    run.fail("b")
    assert run.result() == [
        "1 of 3 have failed, 2 were cancelled, 0 may fail, 2 must succeed. The first: ActivityError: broken",
        "broken",
        1,
    ]


def test_too_few_items_cannot_be_enough():
    assert Run(sums, [], {"min_successful": 1}).result() == ["0 of 0 have failed, 1 must succeed.", "None", 0]


@workflow
async def fails_with_its_batch(ctx: Context) -> None:
    (await ctx.map(STEP, ["a", "b"])).raise_if_failed()


def test_a_run_that_fails_with_its_batch_says_why():
    run = Run(fails_with_its_batch)
    run.complete("a")
    run.fail("b", "no money", type="CardDeclined")
    assert run.failure.type == "BatchError"
    assert run.failure.cause is not None
    assert run.failure.cause.type == "ActivityError"
    run.check_replay()


@workflow
async def maps_a_function(ctx: Context, numbers: list[int]) -> list[Any]:
    async def twice(number: int) -> str:
        if number == 0:
            raise ValueError("nothing")
        first = await ctx.activity(STEP, f"{number} once")
        return first + " " + await ctx.activity(STEP, f"{number} twice")

    batch = await ctx.map(twice, numbers, max_concurrency=2)
    return [one.result or type(one.error).__name__ for one in batch]


def test_an_async_function_can_be_mapped():
    run = Run(maps_a_function, [1, 0, 2, 3])
    assert list(run.pending) == ["1 once", "2 once"]
    for number in (2, 1, 3):
        run.complete(f"{number} once")
        run.complete(f"{number} twice")
    assert run.result() == ["1 once 1 twice", "ValueError", "2 once 2 twice", "3 once 3 twice"]


@workflow
async def maps_what_is_not_awaitable(ctx: Context) -> str:
    function: Any = len
    batch: BatchResult[Any] = await ctx.map(function, [[1], [2]])
    return str(batch.errors[0])


def test_a_plain_function_says_that_it_cannot_be_awaited():
    assert Run(maps_what_is_not_awaitable).result().startswith("len gave 1, which cannot be awaited.")


@workflow
async def maps_a_set(ctx: Context) -> None:
    await ctx.map(STEP, {"a", "b"})


def test_a_set_has_no_order():
    run = Run(maps_a_set)
    assert run.failure.type == "UnsupportedInWorkflow"
    assert "list" in run.failure.message


def wrong(label: int) -> str:
    return str(label)


WRONG: ActivityDefinition[[int], str] = ActivityDefinition(wrong, name="tests.wrong")


@workflow
async def maps_what_does_not_fit(ctx: Context) -> list[str]:
    return [type(error).__name__ for error in (await ctx.map(WRONG, ["a"])).errors]


def test_an_item_that_cannot_be_stored_is_a_failure_of_that_item():
    assert Run(maps_what_does_not_fit).result() == ["PayloadError"]


COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("COLOUR", default="")


@workflow
async def isolates(ctx: Context) -> list[str | None]:
    COLOUR.set("red")

    async def paint(label: str) -> str:
        before = COLOUR.get()
        COLOUR.set(label)
        await ctx.activity(STEP, label)
        return before

    return (await ctx.map(paint, ["a", "b", "c"], max_concurrency=1)).results


def test_each_call_has_the_context_of_the_caller():
    run = Run(isolates)
    for label in "abc":
        run.complete(label)
    assert run.result() == ["red", "red", "red"]


@workflow
async def branches(ctx: Context, limits: dict[str, int]) -> list[str]:
    async def both(first: str, second: str) -> str:
        return await ctx.activity(STEP, first) + await ctx.activity(STEP, second)

    task = asyncio.create_task(both("e", "f"))
    batch = await ctx.parallel(
        [ctx.activity(STEP, "a"), lambda: both("b", "c"), both("d", "d"), task, ctx.activity(STEP, "g")], **limits
    )
    return told(batch)


def test_branches_of_every_kind_run_in_parallel():
    run = Run(branches, {})
    assert sorted(run.pending) == ["a", "b", "d", "e", "g"]
    run.fail("d")
    for label in "gaebfc":
        run.complete(label)
    assert run.result() == ["succeeded a", "succeeded bc", "failed broken", "succeeded ef", "succeeded g"]


def test_branches_that_never_began_are_ended():
    run = Run(branches, {"max_concurrency": 1, "tolerated_failures": 0})
    assert sorted(run.pending) == ["a", "e"]
    run.fail("a")
    assert run.kinds.count("ActivityCancelRequested") == 1
    assert run.result() == ["failed broken", "cancelled", "cancelled", "cancelled", "cancelled"]


def test_no_call_is_reported_as_forgotten(caplog):
    run = Run(branches, {"max_concurrency": 1, "tolerated_failures": 0})
    run.fail("a")
    assert caplog.records == []
    run.evict()


@workflow
async def cleans_up(ctx: Context, labels: list[str]) -> list[str]:
    async def careful(label: str) -> str:
        try:
            return await ctx.activity(STEP, label)
        except asyncio.CancelledError:
            await ctx.activity(STEP, f"undo {label}")
            raise

    return told(await ctx.map(careful, labels, max_concurrency=2, tolerated_failures=0))


def test_a_batch_ends_when_what_it_cancelled_has_cleaned_up():
    run = Run(cleans_up, ["a", "b", "c"])
    run.fail("a")
    assert list(run.pending) == ["undo b"]
    run.complete("undo b")
    assert run.result() == ["failed broken", "cancelled", "cancelled"]


def test_a_run_that_is_cancelled_takes_its_batch_along():
    run = Run(cleans_up, ["a", "b", "c"])
    run.cancel("enough")
    assert sorted(run.pending) == ["undo a", "undo b"]
    run.complete("undo b")
    run.complete("undo a")
    assert run.kinds[-1] == "RunCancelled"
    run.check_replay()


@workflow
async def limited_by_time(ctx: Context) -> str:
    try:
        async with asyncio.timeout(60):
            await ctx.map(STEP, ["a", "b"])
    except TimeoutError:
        return "too late"
    return "in time"


def test_a_batch_can_be_limited_by_time():
    run = Run(limited_by_time)
    run.complete("a")
    run.fire()
    assert run.result() == "too late"


@workflow
async def cancels_itself(ctx: Context) -> list[str]:
    async def quits(label: str) -> str:
        if label == "b":
            raise asyncio.CancelledError
        return await ctx.activity(STEP, label)

    return [one.status for one in await ctx.map(quits, ["a", "b"])]


def test_a_call_that_cancels_itself_has_failed():
    run = Run(cancels_itself)
    run.complete("a")
    assert run.result() == ["succeeded", "failed"]


@workflow
async def nested(ctx: Context) -> list[Any]:
    async def row(labels: list[str]) -> list[Any]:
        return (await ctx.map(STEP, labels)).results

    return (await ctx.map(row, [["a", "b"], ["c"]])).results


def test_batches_nest():
    run = Run(nested)
    for label in "cba":
        run.complete(label)
    assert run.result() == [["a", "b"], ["c"]]


def test_the_stack_names_the_items():
    run = Run(maps, ["a", "b"], {})
    assert [entry.task for entry in run.instance.stack()][1:] == ["tests.step [0]", "tests.step [1]"]
    run.evict()
