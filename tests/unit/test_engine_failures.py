"""How runs end other than well: exceptions, cancellation, and what stops code from outside."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import sys
import threading
from typing import Any

import pytest

from django_durable.engine.context import Context
from django_durable.engine.instance import Instance
from django_durable.engine.recorder import COMMANDS_LIMIT
from django_durable.exceptions import ActivityError, ApplicationError, WorkflowStuck, WorkflowSuspended
from django_durable.history import events, failures
from tests.unit.engine_harness import INFO, STEP, Run, workflow


@workflow
async def fails(ctx: Context) -> None:
    await ctx.activity(STEP, "a")
    raise ApplicationError("no stock", type="OutOfStock", data={"sku": 7})


def test_an_exception_of_the_body_fails_the_run():
    run = Run(fails)
    run.complete("a")
    assert (run.failure.type, run.failure.message, run.failure.data) == ("OutOfStock", "no stock", {"sku": 7})
    assert __file__ in run.failure.traceback
    assert "django_durable/engine" not in run.failure.traceback
    run.check_replay()


@workflow
async def needs_activity(ctx: Context) -> None:
    await ctx.activity(STEP, "a")


def test_an_activity_error_that_nobody_catches_fails_the_run_with_its_causes():
    run = Run(needs_activity)
    cause = failures.Failure(type="ConnectionError", message="refused")
    failure = failures.Failure(type="BankDown", message="try later", cause=cause)
    run.apply(events.ActivityFailed(activity=2, failure=failure, attempts=6, timeout="start_to_close"))
    assert (run.failure.type, run.failure.message) == ("ActivityError", "try later")
    assert run.failure.cause is not None
    assert (run.failure.cause.type, run.failure.cause.message) == ("BankDown", "try later")
    assert run.failure.cause.cause is not None
    assert (run.failure.cause.cause.type, run.failure.cause.cause.message) == ("ConnectionError", "refused")
    assert "engine" not in run.failure.traceback.replace(__file__, "")
    run.check_replay()


@workflow
async def inspects_error(ctx: Context) -> list[Any]:
    try:
        await ctx.activity(STEP, "a")
    except ActivityError as error:
        return [error.activity, error.type, error.message, error.attempts, error.timeout, error.interrupted]
    raise AssertionError


def test_an_activity_error_says_what_happened():
    run = Run(inspects_error)
    failure = failures.Failure(type="BankDown", message="try later")
    run.apply(events.ActivityFailed(activity=2, failure=failure, attempts=6, interrupted=True))
    assert run.result() == ["tests.step", "BankDown", "try later", 6, None, True]


@workflow
async def returns_nonsense(ctx: Context) -> Any:
    return object()


def test_a_result_that_cannot_be_stored_fails_the_run():
    run = Run(returns_nonsense)
    assert run.failure.type == "PayloadError"
    run.check_replay()


@workflow
async def calls_plain_function(ctx: Context) -> None:
    await ctx.activity(len, "abc")  # type: ignore[arg-type]


@workflow
async def calls_nothing(ctx: Context) -> None:
    await ctx.activity("tests.step", "abc")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("definition", "message"),
    [(calls_plain_function, "len is a plain function: decorate it"), (calls_nothing, "not 'tests.step'")],
)
def test_what_is_no_activity_is_refused_with_the_right_way(definition, message):
    run = Run(definition)
    assert run.failure.type == "DefinitionError"
    assert message in run.failure.message
    assert "@durable.activity" in run.failure.message
    run.check_replay()


@workflow
async def wrong_arguments(ctx: Context) -> str:
    try:
        await ctx.activity(STEP, 1, 2, 3)  # type: ignore[call-arg, arg-type]
    except TypeError as error:
        return type(error).__name__
    raise AssertionError


def test_a_wrong_call_raises_where_it_is_awaited():
    assert Run(wrong_arguments).result() == "TypeError"


# What would end the process


@workflow
async def exits(ctx: Context) -> None:
    await ctx.activity(STEP, "a")
    sys.exit(3)


@workflow
async def exits_in_a_task(ctx: Context) -> None:
    async def leave() -> None:
        await ctx.activity(STEP, "a")
        raise KeyboardInterrupt

    task = asyncio.create_task(leave())
    try:
        await ctx.activity(STEP, "b")
    finally:
        await task


@workflow
async def exits_in_a_callback(ctx: Context) -> None:
    asyncio.get_running_loop().call_later(5, sys.exit, 4)
    await ctx.activity(STEP, "b")


def test_sys_exit_fails_the_run_and_nothing_else():
    run = Run(exits)
    run.complete("a")
    assert (run.failure.type, run.failure.message) == ("SystemExit", "3")
    run.check_replay()


def test_a_keyboard_interrupt_in_a_task_fails_the_run():
    run = Run(exits_in_a_task)
    run.complete("a")
    assert run.failure.type == "KeyboardInterrupt"
    run.check_replay()


def test_sys_exit_in_a_callback_fails_the_run():
    run = Run(exits_in_a_callback)
    run.fire()
    assert (run.failure.type, run.failure.message) == ("SystemExit", "4")
    run.check_replay()


@workflow
async def recurses(ctx: Context) -> None:
    def deeper() -> None:
        deeper()

    deeper()


def test_a_recursion_without_end_fails_the_run():
    run = Run(recurses)
    assert run.failure.type == "RecursionError"
    run.evict()


@workflow
async def asks_for_too_much(ctx: Context, number: int) -> None:
    await asyncio.gather(*(ctx.activity(STEP, str(index)) for index in range(number)))


def test_a_drain_with_too_many_commands_fails_the_run_and_names_the_limit():
    run = Run(asks_for_too_much, COMMANDS_LIMIT + 1)
    assert f"{COMMANDS_LIMIT:,}" in run.failure.message
    assert "Semaphore" in run.failure.message
    run.check_replay()
    run = Run(asks_for_too_much, COMMANDS_LIMIT)
    assert len(run.drain.commands) == COMMANDS_LIMIT
    run.evict()


@workflow
async def asks_for_too_much_and_catches_it(ctx: Context) -> str:
    try:
        await asyncio.gather(*(ctx.activity(STEP, str(index)) for index in range(COMMANDS_LIMIT + 1)))
    except BaseException:
        return "swallowed"
    return "all done"


def test_the_limit_cannot_be_swallowed():
    run = Run(asks_for_too_much_and_catches_it)
    assert run.failure.type == "DurableError"
    run.evict()


# Cancellation


@workflow
async def can_be_cancelled(ctx: Context) -> None:
    try:
        await ctx.activity(STEP, "work")
    except asyncio.CancelledError as error:
        await ctx.activity(STEP, f"undo because {error}")
        raise


def test_a_cancelled_run_cleans_up_and_ends_as_cancelled():
    run = Run(can_be_cancelled)
    run.cancel("changed my mind")
    assert run.commands == ["CancelActivity", "ScheduleActivity"]
    run.complete("undo because changed my mind")
    assert run.closing == events.RunCancelled(reason="changed my mind")
    run.check_replay()


def test_a_second_request_to_cancel_does_not_disturb_the_clean_up():
    run = Run(can_be_cancelled)
    run.cancel("first")
    run.cancel("second")
    assert run.commands == []
    run.complete("undo because first")
    assert run.closing == events.RunCancelled(reason="first")
    run.check_replay()


@workflow
async def refuses_to_be_cancelled(ctx: Context) -> str:
    for _ in range(2):
        try:
            await ctx.activity(STEP, "work")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
    return "done"


def test_a_body_may_refuse_and_complete():
    run = Run(refuses_to_be_cancelled)
    run.cancel()
    run.cancel()
    assert run.kinds.count("ActivityCancelRequested") == 2
    assert run.result() == "done"


@workflow
async def cleans_up_badly(ctx: Context) -> None:
    try:
        await ctx.sleep(1000)
    finally:
        raise ValueError("while cleaning up")


def test_a_failure_while_cleaning_up_fails_the_run():
    run = Run(cleans_up_badly)
    run.cancel()
    assert run.commands == ["CancelTimer", "FailRun"]
    assert run.failure.type == "ValueError"
    run.check_replay()


@workflow
async def cancels_itself(ctx: Context) -> None:
    raise asyncio.CancelledError("by myself")


def test_a_cancelled_error_that_nobody_asked_for_fails_the_run():
    run = Run(cancels_itself)
    assert (run.failure.type, run.failure.message) == ("CancelledError", "by myself")
    run.check_replay()


@workflow
async def in_a_group(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.activity(STEP, "a"))
        group.create_task(ctx.sleep(60))


def test_cancellation_reaches_the_tasks_of_a_group():
    run = Run(in_a_group)
    run.cancel("stop")
    assert sorted(run.commands) == ["CancelActivity", "CancelRun", "CancelTimer"]
    run.check_replay()


@workflow
async def within_a_limit(ctx: Context) -> str:
    try:
        async with asyncio.timeout(60):
            try:
                await ctx.activity(STEP, "a")
            except asyncio.CancelledError:
                await ctx.activity(STEP, "cleaning up")
                raise
    except TimeoutError:
        return "timed out"
    return "done"


def test_a_request_to_cancel_arrives_while_a_timeout_is_cleaning_up():
    run = Run(within_a_limit)
    run.fire()
    assert list(run.pending) == ["cleaning up"]
    run.cancel("stop")
    assert isinstance(run.closing, events.RunCancelled)
    run.check_replay()


def test_after_a_cancelled_activity_its_outcome_is_not_taken():
    run = Run(can_be_cancelled)
    late = events.ActivityCompleted(activity=run.pending["work"], result=STEP.encode_result("late"))
    run.cancel()
    assert not run.instance.accepts(late)
    run.evict()


# What stops code from outside

HOOK: list[Any] = []


def _stop() -> None:
    if HOOK:
        HOOK.pop()()


def _stuck() -> None:
    raise WorkflowStuck("too long")


@workflow
async def stops_in_body(ctx: Context) -> str:
    await ctx.activity(STEP, "a")
    _stop()
    return "done"


@workflow
async def stops_in_awaited_task(ctx: Context) -> str:
    return await asyncio.gather(_child(ctx), ctx.activity(STEP, "b"))  # type: ignore[return-value]


@workflow
async def stops_in_a_task_that_nobody_awaits(ctx: Context) -> str:
    task = asyncio.create_task(_child(ctx))
    return await ctx.activity(STEP, "b") + str(task.done())


@workflow
async def stops_in_a_task_whose_failure_is_swallowed(ctx: Context) -> str:
    try:
        await asyncio.create_task(_child(ctx))
    except BaseException:
        return await ctx.activity(STEP, "swallowed")
    return "done"


@workflow
async def stops_in_callback(ctx: Context) -> str:
    task = asyncio.create_task(ctx.activity(STEP, "a"))
    task.add_done_callback(lambda _: _stop())
    return await ctx.activity(STEP, "b")


async def _child(ctx: Context) -> str:
    await ctx.activity(STEP, "a")
    _stop()
    return "done"


STOPPING = [
    stops_in_body,
    stops_in_awaited_task,
    stops_in_a_task_that_nobody_awaits,
    stops_in_a_task_whose_failure_is_swallowed,
    stops_in_callback,
]


@pytest.mark.parametrize("definition", STOPPING, ids=lambda definition: definition.__name__)
def test_what_stops_stuck_code_reaches_the_worker_wherever_it_surfaces(definition, caplog):
    run = Run(definition)
    history = list(run.history)
    HOOK[:] = [_stuck]
    with pytest.raises(WorkflowStuck):
        run.complete("a")
    run.evict()

    HOOK[:] = []
    run = Run(definition)
    run.complete("a")
    HOOK[:] = [_stuck]
    with pytest.raises(WorkflowStuck):
        run.replay()
    run.evict()
    assert history == run.history[: len(history)]
    assert caplog.records == []


@workflow
async def never_awaits(ctx: Context) -> None:
    await ctx.activity(STEP, "a")
    ENTERED.set()
    while True:
        pass


ENTERED = threading.Event()


def test_a_loop_without_end_can_be_stopped_from_another_thread():
    run = Run(never_awaits)
    thread = threading.get_ident()

    def watchdog() -> None:
        ENTERED.wait(30)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(WorkflowStuck))

    watching = threading.Thread(target=watchdog)
    watching.start()
    with pytest.raises(WorkflowStuck):
        run.complete("a")
    watching.join()
    run.evict()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_nothing_that_stops_code_is_an_ordinary_exception():
    assert not issubclass(WorkflowSuspended, Exception)


# What nobody has looked at


@workflow
async def ignores_a_failed_task(ctx: Context) -> str:
    async def failing() -> None:
        raise ValueError("nobody looks")

    asyncio.create_task(failing())  # noqa: RUF006
    return await ctx.activity(STEP, "a")


def test_a_failure_that_nobody_awaited_is_logged_once_at_the_end(caplog):
    run = Run(ignores_a_failed_task)
    assert caplog.records == []
    run.complete("a")
    (record,) = caplog.records
    assert "Task-2 failed, and nobody awaited it" in record.message
    assert record.workflow_id == INFO.workflow_id
    run.check_replay()
    run.replay().evict()


@workflow
async def forgets_to_await(ctx: Context) -> str:
    ctx.activity(STEP, "forgotten")  # type: ignore[unused-coroutine]
    return await ctx.activity(STEP, "a")


def test_an_activity_that_was_never_awaited_is_a_warning_at_the_end(caplog):
    caplog.set_level(logging.WARNING)
    run = Run(forgets_to_await)
    assert run.commands == ["ScheduleActivity"]
    run.complete("a")
    assert ["tests.step" in record.message for record in caplog.records] == [True]
    assert caplog.records[0].name.startswith("django_durable")
    run.evict()


@workflow
async def callback_fails(ctx: Context) -> str:
    asyncio.get_running_loop().call_soon(int, "no number")
    return await ctx.activity(STEP, "a")


def test_a_callback_that_raises_is_logged_and_the_run_goes_on(caplog):
    run = Run(callback_fails)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    run.complete("a")
    replayed: Instance = run.replay()
    assert len(caplog.records) == 1, "a replay is silent"
    replayed.evict()
    assert run.result() == "a"


@workflow
async def calls_a_workflow(ctx: Context) -> None:
    await ctx.activity(is_a_workflow)  # type: ignore[arg-type]


@workflow
async def is_a_workflow(ctx: Context) -> None:
    """Is a workflow."""


def test_a_workflow_that_is_called_as_an_activity_is_named_with_the_right_way():
    run = Run(calls_a_workflow)
    assert "tests.is_a_workflow is a workflow: await ctx.child_workflow(...) runs it as a child" in run.failure.message
