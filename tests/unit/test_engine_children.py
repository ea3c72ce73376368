"""Children and other workflows, seen from the code of one run."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest

from django_durable.engine.commands import ScheduleChild
from django_durable.engine.context import Context
from django_durable.exceptions import ChildWorkflowError, FailureError, NonDeterminismError
from django_durable.history import events, failures
from tests.unit.engine_harness import INFO, STEP, Run, payload, workflow


async def child(ctx: Context, label: str) -> str:
    return label


CHILD = workflow(child)
NAMED = CHILD.using(workflow_id="named")


class Asked(NamedTuple):
    sequence: int
    event: events.ChildScheduled


def scheduled(run: Run) -> dict[str, Asked]:
    """The children of a run, by the label that they were given."""
    found = {}
    for one in run.history:
        if isinstance(one.event, events.ChildScheduled):
            found[CHILD.decode_input(one.event.input)[0][0]] = Asked(one.sequence, one.event)
    return found


def complete(run: Run, label: str, value: Any = None) -> None:
    run.apply(events.ChildCompleted(child=scheduled(run)[label].sequence, result=payload(value or label)))


def fail(run: Run, label: str, status: str = "failed", type: str = "ValueError") -> None:
    failure = failures.Failure(type=type, message="broken", cause=failures.Failure(type="KeyError", message="inner"))
    run.apply(events.ChildFailed(child=scheduled(run)[label].sequence, failure=failure, status=status))


def started(run: Run, label: str) -> None:
    run.apply(events.ChildStarted(child=scheduled(run)[label].sequence))


async def awaits(ctx: Context) -> Any:
    return await asyncio.gather(*(ctx.child_workflow(CHILD, label) for label in "abc"))


def test_children_run_at_once_and_give_their_results():
    run = Run(workflow(awaits))
    assert run.commands == ["ScheduleChild"] * 3
    for label in "bca":
        complete(run, label)
    assert run.result() == ["a", "b", "c"]


def test_ids_and_keys_of_children_are_unlike_each_other_and_the_same_in_a_replay():
    first, again, other = Run(workflow(awaits)), Run(workflow(awaits)), Run(workflow(awaits), seed=8)
    ids = [one.event.run_id for one in scheduled(first).values()]
    assert len(set(ids)) == 3
    assert ids == [one.event.run_id for one in scheduled(again).values()]
    assert not set(ids) & {one.event.run_id for one in scheduled(other).values()}
    assert {one.version for one in ids} == {7}
    assert [one.event.key for one in scheduled(first).values()] == [f"{INFO.run_id.hex}-{n}" for n in (2, 3, 4)]
    for run in (first, again, other):
        run.evict()


async def same_children(ctx: Context) -> list[str]:
    handles = [await ctx.start_child(CHILD, "same") for _ in range(3)]
    await ctx.activity(STEP, "then")
    handles.append(await ctx.start_child(CHILD, "same"))
    return [str(handle.run_id) for handle in handles]


def test_equal_children_have_ids_of_their_own():
    run = Run(workflow(same_children))
    run.complete("then")
    assert len(set(run.result())) == 4


async def tells_ids_at_once(ctx: Context) -> list[str]:
    handle = await ctx.start_child(CHILD, "a")
    return [await ctx.activity(STEP, handle.workflow_id), str(handle.run_id)]


def test_a_handle_knows_its_ids_in_the_very_drain():
    run = Run(workflow(tells_ids_at_once))
    (label,) = run.pending
    run.complete(label)
    assert run.result() == [label, label]


async def catches(ctx: Context) -> list[Any]:
    try:
        return [await ctx.child_workflow(CHILD, "a")]
    except ChildWorkflowError as error:
        cause = error.cause
        assert isinstance(cause, FailureError)
        assert cause.cause is not None
        return [error.type, error.message, error.status, cause.type, cause.cause.type]  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", ["failed", "cancelled", "terminated", "timed_out"])
def test_a_child_without_a_result_is_an_error_that_says_how_it_ended(status):
    run = Run(workflow(catches))
    fail(run, "a", status)
    assert run.result() == ["ValueError", "broken", status, "ValueError", "KeyError"]


async def awaits_later(ctx: Context) -> Any:
    handle = await ctx.start_child(CHILD, "a")
    await ctx.activity(STEP, "meanwhile")
    return [await handle, await handle]


def test_a_result_that_came_before_anybody_asked_is_kept():
    run = Run(workflow(awaits_later))
    complete(run, "a")
    run.complete("meanwhile")
    assert run.result() == ["a", "a"]


async def never_asks(ctx: Context) -> str:
    await ctx.start_child(CHILD, "a")
    await ctx.activity(STEP, "meanwhile")
    return "done"


def test_a_failure_that_nobody_asks_for_is_no_error():
    run = Run(workflow(never_asks))
    fail(run, "a")
    run.complete("meanwhile")
    assert run.result() == "done"


# Ids that are given


async def starts_named(ctx: Context) -> Any:
    try:
        handle = await ctx.start_child(NAMED, "a")
    except ChildWorkflowError as error:
        return f"{error.type} {error.workflow_id}"
    await ctx.activity(STEP, "started")
    return await handle


def test_a_named_child_is_there_once_that_is_known():
    run = Run(workflow(starts_named))
    assert run.pending == {}
    started(run, "a")
    run.complete("started")
    complete(run, "a")
    assert run.result() == "a"


def test_a_named_child_that_cannot_be_started_is_an_error():
    run = Run(workflow(starts_named))
    failure = failures.Failure(type="WorkflowAlreadyStarted", message="taken")
    run.apply(events.ChildStartFailed(child=2, failure=failure))
    assert run.result() == "WorkflowAlreadyStarted named"


def test_an_answer_is_taken_once():
    run = Run(workflow(starts_named))
    started(run, "a")
    assert not run.instance.accepts(events.ChildStarted(child=2))
    run.complete("started")
    complete(run, "a")
    run.evict()


# Cancelling


async def cleans_up(ctx: Context, how: str) -> str:
    try:
        options: Any = {"cancellation": how}
        result: str = await ctx.child_workflow(CHILD.using(**options), "a")
        return result
    except asyncio.CancelledError:
        await ctx.activity(STEP, "clean up")
        raise


def test_a_parent_that_is_cancelled_asks_its_child_and_waits():
    run = Run(workflow(cleans_up), "wait")
    run.cancel("enough")
    assert run.commands == ["CancelChild"]
    assert run.drain.commands[0].event() == events.ChildCancelRequested(child=2, reason="enough")
    fail(run, "a", "cancelled", "CancelledError")
    run.complete("clean up")
    run.check_replay()
    assert isinstance(run.closing, events.RunCancelled)


@pytest.mark.parametrize(("how", "asked"), [("try", ["CancelChild"]), ("abandon", [])])
def test_a_parent_need_not_wait_nor_ask(how, asked):
    run = Run(workflow(cleans_up), how)
    run.cancel()
    assert run.commands == [*asked, "ScheduleActivity"]
    run.complete("clean up")
    run.check_replay()
    assert isinstance(run.closing, events.RunCancelled)


async def cancels_at_once(ctx: Context) -> list[str]:
    task = asyncio.create_task(ctx.child_workflow(CHILD, "a"))
    await asyncio.sleep(0)
    task.cancel()
    told = [type(error).__name__ for error in await asyncio.gather(task, return_exceptions=True)]
    handle = await ctx.start_child(CHILD, "b")
    await handle.cancel("no")
    try:
        await handle
    except ChildWorkflowError as error:
        told.append(error.status)
    return told


def test_a_child_that_is_given_up_in_the_drain_that_asks_for_it_never_starts():
    run = Run(workflow(cancels_at_once))
    assert run.kinds == ["RunStarted", "RunCompleted"]
    assert run.result() == ["CancelledError", "cancelled"]


async def gives_up_named(ctx: Context) -> str:
    try:
        async with asyncio.timeout(5):
            await ctx.start_child(NAMED, "a")
    except TimeoutError:
        await ctx.activity(STEP, "go on")
    return "done"


def test_a_named_child_that_is_given_up_before_it_began_is_asked_to_end_when_it_has():
    run = Run(workflow(gives_up_named))
    run.fire()
    assert run.commands == ["ScheduleActivity"]
    started(run, "a")
    assert run.commands == ["CancelChild"]
    fail(run, "a", "cancelled")
    run.complete("go on")
    assert run.result() == "done"


async def cancels_twice(ctx: Context) -> str:
    handle = await ctx.start_child(CHILD, "a")
    await ctx.activity(STEP, "first")
    await handle.cancel("once")
    await handle.cancel("twice")
    try:
        await handle
    except ChildWorkflowError as error:
        await handle.cancel("afterwards")
        return error.status
    return ""


def test_a_child_is_asked_to_end_once():
    run = Run(workflow(cancels_twice))
    run.complete("first")
    assert run.commands == ["CancelChild"]
    fail(run, "a", "cancelled")
    assert run.result() == "cancelled"


# Other workflows


async def tells_others(ctx: Context) -> list[str]:
    other, told = ctx.get_workflow("other"), []
    for ask in (lambda: other.signal("word", 1), lambda: other.cancel("enough"), lambda: other.signal("word", 2)):
        try:
            await ask()
            told.append("delivered")
        except FailureError as error:
            told.append(error.type)
    return told


def test_messages_to_others_are_answered():
    run = Run(workflow(tells_others))
    assert run.commands == ["SignalExternal"]
    run.apply(events.ExternalDelivered(request=2))
    assert run.commands == ["CancelExternal"]
    run.apply(events.ExternalFailed(request=4, failure=failures.Failure(type="WorkflowClosed")))
    run.apply(events.ExternalDelivered(request=6))
    assert run.result() == ["delivered", "WorkflowClosed", "delivered"]


# Replay


async def awaits_another(ctx: Context) -> Any:
    return await asyncio.gather(*(ctx.child_workflow(CHILD, label) for label in "abd"))


def test_another_child_than_the_recorded_one_is_nondeterminism():
    run = Run(workflow(awaits))
    with pytest.raises(NonDeterminismError, match=r"child workflow tests\.child with"):
        run.replay(workflow(awaits_another))
    run.evict()


async def awaits_with_options(ctx: Context) -> Any:
    changed = CHILD.using(queue="other", parent_close="abandon", cancellation="try", workflow_id="changed")
    return await asyncio.gather(*(ctx.child_workflow(changed, label) for label in "abc"))


def test_options_of_a_child_may_change_under_running_workflows():
    run = Run(workflow(awaits))
    complete(run, "b")
    instance = run.replay(workflow(awaits_with_options))
    assert [one.command.workflow_id for one in instance.children.values()] == [
        one.event.workflow_id for label, one in scheduled(run).items() if label != "b"
    ]
    instance.evict()
    run.evict()


def test_where_a_run_waits_names_the_child():
    run = Run(workflow(starts_named))
    assert any("named" in entry.waits_for for entry in run.instance.stack())
    assert isinstance(run.drain.commands[0], ScheduleChild)
    run.evict()
