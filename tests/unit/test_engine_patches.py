"""Changes of code under open runs: who takes the new branch, and that nobody changes it on the way."""

from __future__ import annotations

from typing import Any

import pytest

from django_durable.engine.context import Context
from django_durable.exceptions import DefinitionError, NonDeterminismError, UnsupportedInWorkflow
from django_durable.history import events
from tests.unit.engine_harness import STEP, Run, workflow


async def before(ctx: Context) -> list[str]:
    seen = [await ctx.activity(STEP, "first")]
    seen.append(await ctx.activity(STEP, "old"))
    await ctx.wait_signal("go")
    return seen


async def after(ctx: Context) -> list[str]:
    seen = [await ctx.activity(STEP, "first")]
    if ctx.patched("new step"):
        seen.append(await ctx.activity(STEP, "new"))
    else:
        seen.append(await ctx.activity(STEP, "old"))
    await ctx.wait_signal("go")
    return seen


async def deprecated(ctx: Context) -> list[str]:
    seen = [await ctx.activity(STEP, "first")]
    ctx.deprecate_patch("new step")
    seen.append(await ctx.activity(STEP, "new"))
    await ctx.wait_signal("go")
    return seen


async def settled(ctx: Context) -> list[str]:
    seen = [await ctx.activity(STEP, "first"), await ctx.activity(STEP, "new")]
    await ctx.wait_signal("go")
    return seen


def deployed(run: Run, function: Any) -> Run:
    """The same run, in a worker that has other code."""
    run.evict()
    run.definition = workflow(function)
    run.instance = run.replay()
    return run


def result(run: Run) -> Any:
    """What the run returned. Its whole history replays; a prefix need not, in a worker that has other code."""
    run.replay().evict()
    run.evict()
    assert isinstance(run.closing, events.RunCompleted), run.closing
    return run.definition.decode_result(run.closing.result)


def markers(run: Run) -> list[str]:
    return [item.event.id for item in run.history if isinstance(item.event, events.PatchMarked)]


def test_a_new_run_takes_the_new_branch_and_remembers_it():
    run = Run(workflow(after))
    run.complete("first")
    assert markers(run) == ["new step"]
    run.complete("new")
    run.signal("go")
    assert run.result() == ["first", "new"]


def test_a_run_that_has_passed_the_place_keeps_the_old_branch():
    run = Run(workflow(before))
    run.complete("first")
    deployed(run, after)
    run.complete("old")
    run.signal("go")
    assert result(run) == ["first", "old"]
    assert markers(run) == []


def test_a_run_that_has_not_come_to_the_place_takes_the_new_branch():
    run = deployed(Run(workflow(before)), after)
    run.complete("first")
    run.complete("new")
    run.signal("go")
    assert run.result() == ["first", "new"]
    assert markers(run) == ["new step"]


def test_without_a_patch_the_same_change_is_caught():
    run = Run(workflow(before))
    run.complete("first")
    with pytest.raises(NonDeterminismError, match="old"):
        run.replay(workflow(settled))
    run.evict()


@pytest.mark.parametrize("function", [deprecated, settled])
def test_code_that_has_only_the_new_branch_goes_on_with_runs_that_took_it(function):
    run = Run(workflow(after))
    run.complete("first")
    deployed(run, function)
    run.complete("new")
    run.signal("go")
    assert result(run) == ["first", "new"]


def test_a_deprecated_patch_leaves_its_marker_for_workers_that_have_both_branches():
    run = Run(workflow(deprecated))
    run.complete("first")
    assert markers(run) == ["new step"]
    deployed(run, after)
    run.complete("new")
    run.signal("go")
    assert run.result() == ["first", "new"]


def test_a_run_that_took_the_old_branch_is_blocked_once_that_is_gone():
    run = Run(workflow(before))
    run.complete("first")
    with pytest.raises(NonDeterminismError):
        run.replay(workflow(deprecated))
    run.evict()


async def loops_before(ctx: Context) -> list[str]:
    seen = []
    for number in range(3):
        seen.append(await ctx.activity(STEP, f"old {number}"))
    return seen


async def loops_after(ctx: Context) -> list[str]:
    seen = []
    for number in range(3):
        kind = "new" if ctx.patched("loop") else "old"
        seen.append(await ctx.activity(STEP, f"{kind} {number}"))
    return seen


def test_a_run_does_not_change_the_branch_in_the_middle_of_a_loop():
    run = Run(workflow(loops_before))
    run.complete("old 0")
    deployed(run, loops_after)
    run.complete("old 1")
    deployed(run, loops_after)
    run.complete("old 2")
    assert result(run) == ["old 0", "old 1", "old 2"]


def test_the_marker_is_made_once_however_often_it_is_asked_for():
    run = Run(workflow(loops_after))
    for number in range(3):
        run.complete(f"new {number}")
    assert run.result() == ["new 0", "new 1", "new 2"]
    assert markers(run) == ["loop"]


async def asked_earlier(ctx: Context) -> list[str]:
    ctx.patched("new step")
    return await after(ctx)


def test_a_marker_counts_wherever_it_stands():
    run = Run(workflow(after))
    run.complete("first")
    deployed(run, asked_earlier)
    run.complete("new")
    run.signal("go")
    assert result(run) == ["first", "new"]


async def looks(ctx: Context) -> str:
    @ctx.on_query("decided")
    def decided() -> bool:
        return ctx.patched("asked")

    @ctx.on_query("undecided")
    def undecided() -> bool:
        return ctx.patched("never asked")

    ctx.patched("asked")
    result: str = await ctx.activity(STEP, "only")
    return result


def test_code_that_only_looks_sees_what_is_decided_and_decides_nothing():
    run = Run(workflow(looks))
    assert run.query("decided") is True
    with pytest.raises(UnsupportedInWorkflow):
        run.query("undecided")
    run.complete("only")
    assert run.result() == "only"


async def unnamed(ctx: Context) -> bool:
    return ctx.patched("")


def test_a_patch_needs_an_id():
    run = Run(workflow(unnamed))
    assert run.failure.type == DefinitionError.__name__
    run.check_replay()


async def returns_at_once(ctx: Context) -> bool:
    return ctx.patched("first drain")


def test_a_look_at_a_run_that_has_not_begun_sees_the_new_branch():
    run = Run(workflow(returns_at_once))
    assert [type(item.event) for item in run.history] == [events.RunStarted, events.PatchMarked, events.RunCompleted]
    fresh = type(run.instance)(run.definition, run.instance.info)
    fresh.look(run.history[:1])
    assert fresh.closed
    fresh.evict()
    assert run.result() is True
