"""Scopes and labels: in the history for people, and never compared."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine.context import Context
from django_durable.exceptions import DefinitionError
from django_durable.history import events
from tests.unit.engine_harness import STEP, Run, workflow


def scopes_of(run: Run) -> list[tuple[str, str]]:
    """What was asked for, with its scope."""
    found = []
    for item in run.history:
        if isinstance(item.event, events.ActivityScheduled):
            label = STEP.decode_input(item.event.input)[0][0]
            found.append((label, item.event.scope))
        elif isinstance(item.event, events.Scoped):
            found.append((type(item.event).__name__, item.event.scope))
    return found


@workflow
async def scoped(ctx: Context) -> None:
    await ctx.activity(STEP, "before")
    with ctx.scope("payment"):
        await ctx.activity(STEP, "a")
        async with ctx.scope("retry"):
            await ctx.sleep(5)
            ctx.side_effect(lambda: 1)
        await asyncio.gather(ctx.activity(STEP, "b"), ctx.activity(STEP, "c"))
        late = asyncio.create_task(ctx.activity(STEP, "late"))
    await ctx.activity(STEP, "after")
    await late


def test_what_is_asked_for_inside_belongs_to_the_scope():
    run = Run(scoped)
    run.complete("before")
    run.complete("a")
    run.fire()
    run.complete("b")
    run.complete("c")
    run.complete("after")
    run.complete("late")
    assert sorted(scopes_of(run)) == sorted(
        [
            ("before", ""),
            ("a", "payment"),
            ("TimerStarted", "payment/retry"),
            ("SideEffectRecorded", "payment/retry"),
            ("b", "payment"),
            ("c", "payment"),
            ("late", "payment"),
            ("after", ""),
        ]
    )
    run.check_replay()


@workflow
async def side_by_side(ctx: Context) -> None:
    async def one(name: str) -> None:
        with ctx.scope(name):
            await ctx.activity(STEP, f"{name} 1")
            await ctx.activity(STEP, f"{name} 2")

    await ctx.map(one, ["x", "y"])


def test_scopes_of_tasks_do_not_mix():
    run = Run(side_by_side)
    for label in ("x 1", "y 1", "x 2", "y 2"):
        run.complete(label)
    assert scopes_of(run) == [("x 1", "x"), ("y 1", "y"), ("x 2", "x"), ("y 2", "y")]
    run.check_replay()


def variant(name: str, label: str, duration: float = 60) -> WorkflowDefinition[..., Any]:
    async def variant(ctx: Context) -> None:
        with ctx.scope(name):
            await ctx.activity(STEP.using(label=label), "a")
            await ctx.sleep(duration, label=label)

    return workflow(_at_top_level(variant))


def _at_top_level(function: Any) -> Any:
    function.__qualname__ = function.__name__
    return function


def test_neither_scopes_nor_labels_are_compared():
    run = Run(variant("payment", "the deposit"))
    run.complete("a")
    other = run.replay(variant("billing", "the rest"))
    assert other.sequence == run.instance.sequence
    other.evict()
    run.fire()
    run.check_replay()


def test_labels_are_recorded_and_shown_where_the_run_waits():
    run = Run(variant("payment", "the deposit"))
    assert [entry.waits_for for entry in run.instance.stack()] == ["activity tests.step (the deposit)"]
    run.complete("a")
    assert [entry.waits_for for entry in run.instance.stack()] == ["a timer of 60 s (the deposit)"]
    labels = [item.event.label for item in run.history if hasattr(item.event, "label")]
    assert labels == ["the deposit", "the deposit"]
    run.evict()


@workflow
async def times_out(ctx: Context) -> None:
    await asyncio.gather(
        ctx.wait_signal("go", timeout=timedelta(days=1), label="patience"),
        ctx.wait_until(lambda: False, timeout=5, label="hope"),
        return_exceptions=True,
    )


def test_time_limits_have_labels_too():
    run = Run(times_out)
    assert [item.event.label for item in run.history if isinstance(item.event, events.TimerStarted)] == [
        "patience",
        "hope",
    ]
    run.evict()


@workflow
async def wrong_scope(ctx: Context, name: str) -> None:
    with ctx.scope(name):
        await ctx.activity(STEP, "a")


@pytest.mark.parametrize("name", ["", "a/b", "x" * 101, "line\nbreak"])
def test_a_name_that_cannot_be_one_is_refused(name):
    assert Run(wrong_scope, name).failure.type == "DefinitionError"


@workflow
async def enters_twice(ctx: Context) -> None:
    scope = ctx.scope("a")
    with scope, scope:
        pass


def test_a_scope_is_entered_once_at_a_time():
    assert Run(enters_twice).failure.type == "RuntimeError"


def test_a_label_is_text():
    wrong: Any = 7
    with pytest.raises(DefinitionError, match="label"):
        STEP.using(label=wrong)
    with pytest.raises(DefinitionError, match="label"):
        scoped.using(label="line\nbreak")
