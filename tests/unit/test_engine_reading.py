"""A replay by anybody answers queries and says where the run waits, and nothing comes of it."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import pytest

from django_durable.engine.context import Context
from django_durable.engine.instance import Instance
from django_durable.engine.stack import StackEntry
from django_durable.exceptions import (
    DurableError,
    NonDeterminismError,
    PayloadError,
    QueryFailed,
    UnsupportedInWorkflow,
)
from django_durable.history import events
from django_durable.history.events import Recorded
from tests.unit.engine_harness import INFO, STEP, Run, workflow


@workflow
async def counts(ctx: Context) -> int:
    total = 0

    @ctx.on_query("total")
    def answer() -> int:
        return total

    @ctx.on_query("on")
    async def on(day: date, *, plus: int = 0) -> tuple[date, int]:
        return day, total + plus

    @ctx.on_query("does")
    async def does(what: str) -> Any:
        if what == "activity":
            await ctx.activity(STEP, "a")
        elif what == "sleep":
            await ctx.sleep(1)
        elif what == "yield":
            await asyncio.sleep(0)
        elif what == "finished":
            await ctx.handlers_finished()
        elif what == "task":
            await asyncio.shield(asyncio.ensure_future(ctx.wait_signal("add")))
        elif what == "effect":
            ctx.side_effect(dict)
        raise ValueError(f"no {what}")

    while total < 10:
        total += await ctx.wait_signal("add")
    return total


def test_a_query_is_answered_at_every_point_of_a_run():
    run = Run(counts)
    assert run.query("total") == 0
    run.signal("add", 3)
    run.signal("add", 4)
    assert run.query("total") == 7
    assert run.query("on", "2026-03-01", plus=1) == (date(2026, 3, 1), 8)
    run.signal("add", 5)
    assert run.query("total") == 12
    assert run.result() == 12


def test_a_run_that_was_ended_from_outside_answers_as_of_before():
    run = Run(counts)
    run.signal("add", 3)
    run.history.append(Recorded(len(run.history) + 1, run.time, events.RunTerminated(reason="no")))
    assert run.query("total") == 3
    run.evict()


def test_an_unknown_query_names_those_that_there_are():
    run = Run(counts)
    with pytest.raises(QueryFailed, match=r"no handler for query 'sum' now. It has: 'total', 'on', 'does'"):
        run.query("sum")
    run.evict()


def test_wrong_arguments_are_refused():
    run = Run(counts)
    with pytest.raises(PayloadError, match="The input of the handler of query 'on'"):
        run.query("on", "tomorrow")
    told = r"The handler of query 'on'\(day: .*, \*, plus: .* = \.\.\.\).* missing a required argument: 'day'"
    with pytest.raises(TypeError, match=told):
        run.query("on")
    with pytest.raises(TypeError, match="too many positional arguments"):
        run.query("total", 1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        run.query("total", x=3)
    run.evict()


@pytest.mark.parametrize("what", ["activity", "sleep", "yield", "finished", "task", "effect"])
def test_a_query_can_only_look(what):
    run = Run(counts)
    with pytest.raises((UnsupportedInWorkflow, ValueError)) as caught:
        run.query("does", what)
    assert what == "task" or caught.type is UnsupportedInWorkflow
    run.signal("add", 10)
    assert run.result() == 10


def test_an_exception_of_the_handler_is_raised():
    run = Run(counts)
    with pytest.raises(ValueError, match="no luck"):
        run.query("does", "luck")
    run.evict()


async def other(ctx: Context) -> None:
    await ctx.activity(STEP, "a")


def test_a_run_whose_code_has_changed_tells_the_difference():
    run = Run(counts)
    run.signal("add", 3)
    instance = Instance(workflow(other), INFO)
    with pytest.raises(NonDeterminismError):
        instance.look(run.history)
    instance.evict()
    run.evict()


CALLS: list[int] = []


@workflow
async def begins_with_an_effect(ctx: Context) -> int:
    @ctx.on_query("ready")
    def ready() -> bool:
        return True

    def effect() -> int:
        CALLS.append(1)
        return 1

    number = ctx.side_effect(effect)
    await ctx.sleep(60)
    return number


def test_looking_at_a_run_that_has_not_begun_has_no_effect():
    run = Run(begins_with_an_effect)
    started = run.history[:1]
    assert run.query("ready") is True
    CALLS.clear()
    instance = Instance(run.definition, INFO)
    with pytest.raises(DurableError, match="has not begun yet"):
        instance.look(started)
    instance.evict()
    assert CALLS == []
    run.evict()


@workflow
async def waits_everywhere(ctx: Context) -> None:
    event = asyncio.Event()

    async def calls() -> None:
        await ctx.activity(STEP, "a")

    async def sleeps() -> None:
        await asyncio.sleep(90)

    async def listens() -> None:
        await ctx.wait_signal("go", timeout=60)

    async def waits() -> None:
        await event.wait()

    async def finished() -> None:
        await ctx.wait_signal("later")
        await ctx.handlers_finished()

    @ctx.on_update("slow")
    async def slow() -> None:
        await ctx.sleep(2)

    tasks = [asyncio.create_task(one(), name=one.__name__) for one in (calls, sleeps, listens, waits, finished)]
    tasks.append(asyncio.create_task(ctx.activity(STEP, "b"), name="bare"))  # type: ignore[arg-type]
    await asyncio.gather(*tasks)


def _entries(run: Run) -> dict[str, StackEntry]:
    instance = Instance(run.definition, INFO)
    instance.look(run.history)
    found = instance.stack()
    instance.evict()
    return {entry.task: entry for entry in found}


def test_the_stack_says_where_every_task_waits_and_what_for():
    run = Run(waits_everywhere)
    run.update("slow", id="u1")
    run.signal("later")
    entries = _entries(run)
    waits = {name: entry.waits_for for name, entry in entries.items()}
    assert waits == {
        "tests.flow": "tasks calls, sleeps, listens, waits, finished, bare",
        "calls": "activity tests.step",
        "sleeps": "a timer of 90 s",
        "listens": "signal go",
        "waits": "asyncio Event.wait",
        "bare": "activity tests.step",
        "finished": "open handlers",
        "update 'slow' u1": "a timer of 2 s",
    }
    first = waits_everywhere.function.__code__.co_firstlineno
    calls = entries["calls"]
    assert (calls.file, calls.line, calls.function) == (__file__, first + 5, "waits_everywhere.<locals>.calls")
    assert entries["bare"].file == __file__
    assert entries["tests.flow"].function == "waits_everywhere"
    run.evict()


def test_the_stack_of_a_closed_run_is_empty():
    run = Run(counts)
    run.signal("add", 10)
    assert _entries(run) == {}
    run.evict()
