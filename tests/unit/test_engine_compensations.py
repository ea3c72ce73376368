"""Compensations: a workflow that comes to nothing undoes what it has done, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from django_durable.engine.context import Context
from django_durable.exceptions import ActivityError
from django_durable.history import events
from tests.unit.engine_harness import STEP, Run, workflow
from tests.unit.test_engine_scopes import scopes_of


@workflow
async def books(ctx: Context, parallel: bool = False) -> str:
    if parallel:
        ctx.compensate_in_parallel()
    for step in ("flight", "hotel", "car"):
        await ctx.activity(STEP, step)
        ctx.compensate(STEP, f"cancel {step}")
    await ctx.activity(STEP, "pay")
    return "booked"


def booked(*, parallel: bool = False) -> Run:
    """A run that has only to be paid."""
    run = Run(books, parallel)
    for step in ("flight", "hotel", "car"):
        run.complete(step)
    return run


def test_without_a_failure_nothing_is_undone():
    run = booked()
    run.complete("pay")
    assert run.result() == "booked"


def test_a_failure_is_undone_in_reverse_before_the_run_ends_with_it():
    run = booked()
    run.fail("pay", "no money", type="CardDeclined")
    for step in ("car", "hotel", "flight"):
        assert list(run.pending) == [f"cancel {step}"]
        run.complete(f"cancel {step}")
    assert (run.failure.type, run.failure.message) == ("ActivityError", "no money")
    assert "failed" not in run.failure.traceback.splitlines()[-1]
    run.check_replay()


def test_what_undoes_is_in_a_scope_of_its_own():
    run = booked()
    run.fail("pay")
    for step in ("car", "hotel", "flight"):
        run.complete(f"cancel {step}")
    assert [scope for label, scope in scopes_of(run) if label.startswith("cancel")] == ["compensation"] * 3
    assert {scope for label, scope in scopes_of(run) if not label.startswith("cancel")} == {""}


def test_only_what_was_done_is_undone():
    run = Run(books)
    run.complete("flight")
    run.fail("hotel")
    assert list(run.pending) == ["cancel flight"]
    run.complete("cancel flight")
    assert run.failure.type == "ActivityError"


def test_all_at_once_if_told_so():
    run = booked(parallel=True)
    run.fail("pay")
    assert list(run.pending) == ["cancel car", "cancel hotel", "cancel flight"]
    run.complete("cancel hotel")
    run.fail("cancel car")
    run.complete("cancel flight")
    assert "Compensation tests.step failed: ActivityError: broken" in run.failure.traceback
    run.check_replay()


def test_one_that_fails_does_not_stop_the_others(caplog):
    run = booked()
    run.fail("pay", "no money")
    run.fail("cancel car", "the office is closed")
    run.complete("cancel hotel")
    run.fail("cancel flight", "no such flight")
    assert run.failure.message == "no money"
    notes = [line for line in run.failure.traceback.splitlines() if line.startswith("Compensation")]
    assert notes == [
        "Compensation tests.step failed: ActivityError: the office is closed",
        "Compensation tests.step failed: ActivityError: no such flight",
    ]
    assert [record.getMessage() for record in caplog.records] == notes
    run.check_replay()


def test_a_cancelled_run_is_undone_and_ends_as_cancelled():
    run = booked()
    run.cancel("changed my mind")
    assert run.commands == ["CancelActivity", "ScheduleActivity"]
    run.cancel("at once!")  # changes nothing
    assert run.commands == []
    for step in ("car", "hotel", "flight"):
        run.complete(f"cancel {step}")
    assert isinstance(run.closing, events.RunCancelled)
    assert run.closing.reason == "changed my mind"
    run.check_replay()


def test_a_request_to_cancel_does_not_stop_what_undoes_a_failure():
    run = booked()
    run.fail("pay", "no money")
    run.cancel()
    run.complete("cancel car")
    run.cancel()
    run.complete("cancel hotel")
    run.complete("cancel flight")
    assert run.failure.message == "no money"
    run.check_replay()


@workflow
async def undoes_with_code(ctx: Context) -> None:
    async def undo(label: str, *, times: int) -> None:
        for number in range(times):
            await ctx.activity(STEP, f"{label} {number}")
        await ctx.sleep(5)

    def forgets() -> str:
        return "nothing to await"

    ctx.compensate(forgets)  # type: ignore[call-overload]
    ctx.compensate(undo, "undo", times=2)
    raise ValueError("broken")


def test_an_async_function_may_undo_in_several_steps():
    run = Run(undoes_with_code)
    run.complete("undo 0")
    run.complete("undo 1")
    run.fire()
    assert run.failure.type == "ValueError"
    assert "cannot be awaited" in run.failure.traceback
    run.check_replay()


@workflow
async def registers_more(ctx: Context) -> None:
    async def undo() -> None:
        ctx.compensate(STEP, "inner")
        await ctx.activity(STEP, "outer")

    ctx.compensate(STEP, "first")
    ctx.compensate(undo)
    raise ValueError("broken")


def test_a_compensation_may_register_another():
    run = Run(registers_more)
    for label in ("outer", "inner", "first"):
        assert list(run.pending) == [label]
        run.complete(label)
    assert run.failure.type == "ValueError"
    run.check_replay()


@workflow
async def goes_on(ctx: Context) -> Any:
    ctx.compensate(STEP, "undo a")
    ctx.compensate(STEP, "undo b")
    try:
        await ctx.activity(STEP, "pay")
    except ActivityError as error:
        try:
            await ctx.compensate_now()
        except ExceptionGroup as group:
            return [str(group), [str(one) for one in group.exceptions]]
        await ctx.activity(STEP, "tell")
        return f"refused: {error}"


def test_a_workflow_may_undo_and_go_on():
    run = Run(goes_on)
    run.fail("pay", "no money")
    run.complete("undo b")
    run.complete("undo a")
    run.complete("tell")
    assert run.result() == "refused: no money"
    assert sum(scope == "compensation" for _, scope in scopes_of(run)) == 2


def test_what_cannot_be_undone_is_told_to_the_workflow():
    run = Run(goes_on)
    run.fail("pay")
    run.fail("undo b", "never")
    run.complete("undo a")
    assert run.result() == ["1 compensation failed (1 sub-exception)", ["never"]]


def test_a_workflow_that_is_cancelled_while_it_undoes_finishes_that_first():
    run = Run(goes_on)
    run.fail("pay")
    run.cancel()
    run.complete("undo b")
    run.complete("undo a")
    assert run.kinds[-1] == "RunCancelled"
    run.check_replay()


@workflow
async def swallows(ctx: Context) -> str:
    ctx.compensate(STEP, "undo")
    try:
        await ctx.activity(STEP, "a")
    except asyncio.CancelledError:
        return "done anyway"
    return "done"


def test_a_workflow_that_swallows_its_cancellation_is_not_undone():
    run = Run(swallows)
    run.cancel()
    assert run.result() == "done anyway"


@workflow
async def cancelled_in_a_handler(ctx: Context) -> str:
    @ctx.on_signal("fail")
    async def fail() -> None:
        await ctx.activity(STEP, "handle")

    ctx.compensate(STEP, "undo")
    await ctx.wait_signal("stop")
    return "done"


def test_a_handler_that_fails_after_the_body_has_ended_undoes_it_too():
    run = Run(cancelled_in_a_handler)
    run.signal("fail")
    run.signal("stop")
    assert not run.instance.closed
    run.fail("handle", "no")
    run.complete("undo")
    assert run.failure.message == "no"
    run.check_replay()


def test_a_handler_that_succeeds_does_not():
    run = Run(cancelled_in_a_handler)
    run.signal("fail")
    run.signal("stop")
    run.complete("handle")
    assert run.result() == "done"


@workflow
async def begins_again(ctx: Context) -> None:
    ctx.compensate(STEP, "undo")
    await ctx.activity(STEP, "a")
    ctx.continue_as_new()


def test_continuing_as_new_is_no_failure():
    run = Run(begins_again)
    run.complete("a")
    assert run.commands == ["ContinueAsNew"]
    run.check_replay()


@workflow
async def exits(ctx: Context) -> None:
    ctx.compensate(STEP, "undo")
    await ctx.activity(STEP, "a")
    raise SystemExit(3)


def test_code_that_exits_is_undone_as_well():
    run = Run(exits)
    run.complete("a")
    run.complete("undo")
    assert run.failure.type == "SystemExit"
    run.evict()


@workflow
async def wrong(ctx: Context, how: str) -> None:
    async def undo() -> None: ...

    coroutine = undo()
    try:
        if how == "value":
            ctx.compensate(coroutine)  # type: ignore[call-overload]
        else:
            arguments: Any = {"payload": [object()], "call": ["a", "b"]}[how]
            ctx.compensate(STEP, *arguments)
    finally:
        coroutine.close()


@pytest.mark.parametrize(
    ("how", "error"), [("value", "DefinitionError"), ("payload", "PayloadError"), ("call", "TypeError")]
)
def test_what_cannot_be_called_later_is_refused_where_it_is_registered(how, error):
    run = Run(wrong, how)
    assert run.failure.type == error
    assert run.commands == ["FailRun"]


def test_a_run_that_undoes_leaves_memory_quietly():
    run = booked()
    run.fail("pay")
    assert [entry.task for entry in run.instance.stack()] == ["tests.flow", "compensation"]
    run.evict()
