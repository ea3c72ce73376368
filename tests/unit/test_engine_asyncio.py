"""Plain ``asyncio`` works inside a workflow. Every test also replays each prefix of what happened."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from django_durable.engine.context import Context
from django_durable.exceptions import ActivityError
from django_durable.history import events
from tests.unit.engine_harness import STEP, Run, payload, workflow


@workflow
async def in_sequence(ctx: Context) -> list[str]:
    return [await ctx.activity(STEP, label) for label in "abc"]


def test_awaits_in_sequence_schedule_one_activity_at_a_time():
    run = Run(in_sequence)
    for label in "abc":
        assert list(run.pending) == [label]
        run.complete(label)
    assert run.result() == ["a", "b", "c"]


@workflow
async def gathers(ctx: Context) -> list[str]:
    return await asyncio.gather(*(ctx.activity(STEP, label) for label in "abc"))


def test_gather_schedules_all_at_once_and_keeps_the_order_of_its_arguments():
    run = Run(gathers)
    assert run.commands == ["ScheduleActivity"] * 3
    for label in "cab":
        run.complete(label)
    assert run.result() == ["a", "b", "c"]


@workflow
async def gathers_failures(ctx: Context) -> list[str]:
    results = await asyncio.gather(*(ctx.activity(STEP, label) for label in "ab"), return_exceptions=True)
    return [type(result).__name__ for result in results]


def test_gather_can_return_exceptions():
    run = Run(gathers_failures)
    run.fail("b")
    run.complete("a")
    assert run.result() == ["str", "ActivityError"]


@workflow
async def waits_for_first(ctx: Context) -> list[str]:
    tasks = {asyncio.create_task(ctx.activity(STEP, label)) for label in "abcdefgh"}
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return [task.result() for task in done]


def test_wait_for_the_first_completed_cancels_the_others():
    run = Run(waits_for_first)
    run.complete("c")
    assert run.commands == ["CancelActivity"] * 7 + ["CompleteRun"]
    assert run.result() == ["c"]


@workflow
async def waits_for_all(ctx: Context) -> list[str]:
    done, pending = await asyncio.wait([asyncio.create_task(ctx.activity(STEP, label)) for label in "abc"])
    assert not pending
    return [task.result() for task in done]


def test_a_set_of_tasks_iterates_in_the_same_order_in_every_instance():
    orders = set()
    for _ in range(5):
        run = Run(waits_for_all)
        for label in "bca":
            run.complete(label)
        orders.add(tuple(run.result()))
    assert len(orders) == 1


@workflow
async def waits_with_timeout(ctx: Context) -> list[int]:
    done, pending = await asyncio.wait([asyncio.create_task(ctx.activity(STEP, label)) for label in "abc"], timeout=5)
    return [len(done), len(pending)]


def test_wait_with_timeout_gives_what_is_done_by_then():
    run = Run(waits_with_timeout)
    run.complete("a")
    run.fire()
    assert run.result() == [1, 2]


@workflow
async def limits(ctx: Context, seconds: float) -> str:
    try:
        return await asyncio.wait_for(ctx.activity(STEP, "a"), seconds)
    except TimeoutError:
        return "too late"


def test_wait_for_cancels_the_activity_when_its_time_is_up():
    run = Run(limits, 5.0)
    run.fire()
    assert "CancelActivity" in run.commands
    assert run.result() == "too late"


def test_wait_for_cancels_its_timer_when_the_activity_is_done():
    run = Run(limits, 5.0)
    run.complete("a")
    assert "CancelTimer" in run.commands
    assert run.instance.next_timer() is None
    assert run.result() == "a"


def test_wait_for_no_time_at_all_never_starts_the_activity():
    run = Run(limits, 0.0)
    assert run.kinds == ["RunStarted", "RunCompleted"]
    assert run.result() == "too late"


@workflow
async def waits_for_both_limits(ctx: Context) -> tuple[str, str]:
    return await asyncio.gather(asyncio.wait_for(ctx.activity(STEP, "a"), 5), ctx.activity(STEP, "b"))


def test_gather_of_wait_for_schedules_the_same_commands_on_every_python():
    run = Run(waits_for_both_limits)
    assert sorted(run.commands) == ["ScheduleActivity", "ScheduleActivity", "StartTimer"]
    run.complete("b")
    run.complete("a")
    assert run.result() == ("a", "b")


@workflow
async def times_out(ctx: Context) -> list[Any]:
    seen: list[Any] = []
    try:
        async with asyncio.timeout(10) as limit:
            seen.append(await ctx.activity(STEP, "a"))
            limit.reschedule(asyncio.get_running_loop().time() + 60)
            seen.append(await ctx.activity(STEP, "b"))
    except TimeoutError:
        seen.append(f"timed out at {asyncio.get_running_loop().time():g}")
    return seen


def test_timeout_can_be_rescheduled_and_fires():
    run = Run(times_out)
    run.complete("a", after=4)
    assert sorted(run.commands) == ["CancelTimer", "ScheduleActivity", "StartTimer"]
    run.fire()
    assert run.result() == ["a", "timed out at 64"]


@workflow
async def groups(ctx: Context) -> Any:
    failures: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.activity(STEP, label)) for label in "abcd"]
    except* ActivityError as failed:
        failures = [str(error) for error in failed.exceptions]
    return failures or [task.result() for task in tasks]


def test_task_group_gives_all_results():
    run = Run(groups)
    for label in "dcba":
        run.complete(label)
    assert run.result() == ["a", "b", "c", "d"]


def test_task_group_cancels_the_rest_when_one_fails():
    run = Run(groups)
    run.complete("b")
    run.fail("c", "no stock")
    assert run.commands == ["CancelActivity", "CancelActivity", "CompleteRun"]
    assert run.result() == ["no stock"]


@workflow
async def group_that_fails(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.activity(STEP, "a"))
        group.create_task(ctx.activity(STEP, "b"))


def test_an_exception_group_that_nobody_catches_fails_the_run():
    run = Run(group_that_fails)
    run.fail("a")
    assert run.failure.type == "ExceptionGroup"
    assert "test_engine_asyncio.py" in run.failure.traceback
    assert "engine/" not in run.failure.traceback.split("+-")[0]
    run.check_replay()


@workflow
async def locks(ctx: Context) -> list[str]:
    lock, order = asyncio.Lock(), []

    async def one(label: str) -> None:
        async with lock:
            order.append(await ctx.activity(STEP, label))

    await asyncio.gather(one("a"), one("b"), one("c"))
    return order


def test_lock_lets_one_in_after_the_other():
    run = Run(locks)
    for label in "abc":
        assert list(run.pending) == [label]
        run.complete(label)
    assert run.result() == ["a", "b", "c"]


@workflow
async def signals_each_other(ctx: Context) -> list[str]:
    event, order = asyncio.Event(), []

    async def waiter(name: str) -> None:
        await event.wait()
        order.append(name)

    waiting = [asyncio.create_task(waiter(name)) for name in "xyz"]
    order.append(await ctx.activity(STEP, "a"))
    event.set()
    await asyncio.gather(*waiting)
    return order


def test_event_wakes_all_its_waiters_in_order():
    run = Run(signals_each_other)
    run.complete("a")
    assert run.result() == ["a", "x", "y", "z"]


@workflow
async def produces(ctx: Context) -> list[str]:
    queue: asyncio.Queue[str | None] = asyncio.Queue(maxsize=1)
    taken: list[str] = []

    async def consume() -> None:
        while (item := await queue.get()) is not None:
            taken.append(await ctx.activity(STEP, item))

    consumer = asyncio.create_task(consume())
    for item in ("a", "b", "c", None):
        await queue.put(item)
    await consumer
    return taken


def test_queue_passes_items_between_tasks():
    run = Run(produces)
    for label in "abc":
        run.complete(label)
    assert run.result() == ["a", "b", "c"]


@workflow
async def limits_concurrency(ctx: Context) -> list[str]:
    semaphore = asyncio.Semaphore(2)

    async def one(label: str) -> str:
        async with semaphore:
            return await ctx.activity(STEP, label)

    return await asyncio.gather(*(one(label) for label in "abcd"))


def test_semaphore_limits_how_many_activities_run():
    run = Run(limits_concurrency)
    assert list(run.pending) == ["a", "b"]
    run.complete("b")
    assert list(run.pending) == ["a", "c"]
    for label in "acd":
        run.complete(label)
    assert run.result() == ["a", "b", "c", "d"]


@workflow
async def meets(ctx: Context) -> list[str]:
    condition, ready, order = asyncio.Condition(), [], []

    async def one(label: str) -> None:
        async with condition:
            await condition.wait_for(lambda: label in ready)
            order.append(label)

    waiting = [asyncio.create_task(one(label)) for label in "ab"]
    for label in "ba":
        ready.append(await ctx.activity(STEP, label))
        async with condition:
            condition.notify_all()
    await asyncio.gather(*waiting)
    return order


def test_condition_wakes_who_waits_for_it():
    run = Run(meets)
    run.complete("b")
    run.complete("a")
    assert run.result() == ["b", "a"]


async def _then(ctx: Context, label: str, following: str) -> str:
    await ctx.activity(STEP, label)
    return await ctx.activity(STEP, following)


@workflow
async def takes_as_completed(ctx: Context) -> list[str]:
    calls = [_then(ctx, "same", f"after {number}") for number in range(12)]
    return [await earliest for earliest in asyncio.as_completed(calls)]


def test_as_completed_starts_coroutines_in_the_order_of_the_list():
    run = Run(takes_as_completed)
    sequences = [command.sequence for command in run.drain.commands]
    for sequence in reversed(sequences):
        from_call = sequences.index(sequence)
        run.apply(events.ActivityCompleted(activity=sequence, result=payload("x")))
        assert f"after {from_call}" in run.pending
    for number in range(12):
        run.complete(f"after {number}")
    assert run.result() == [f"after {number}" for number in range(12)]


@workflow
async def takes_tasks_as_completed(ctx: Context) -> list[str]:
    tasks = [asyncio.create_task(ctx.activity(STEP, label)) for label in "abc"]
    results = []
    for earliest in asyncio.as_completed(tasks, timeout=60):
        try:
            results.append(await earliest)
        except TimeoutError:
            results.append("too late")
    return results


def test_as_completed_takes_tasks_and_a_timeout():
    run = Run(takes_tasks_as_completed)
    run.complete("b")
    run.fire()
    assert run.result() == ["b", "too late", "too late"]


@workflow
async def takes_set_as_completed(ctx: Context) -> None:
    for earliest in asyncio.as_completed({ctx.activity(STEP, label) for label in "ab"}):
        await earliest


def test_as_completed_of_a_set_of_coroutines_is_refused_with_the_right_way():
    run = Run(takes_set_as_completed)
    assert run.failure.type == "UnsupportedInWorkflow"
    assert "a list or a tuple" in run.failure.message
    run.check_replay()


@workflow
async def sleeps(ctx: Context) -> list[float]:
    loop = asyncio.get_running_loop()
    times = [loop.time()]
    await asyncio.sleep(1.5)
    times.append(loop.time())
    await ctx.sleep(timedelta(days=400, microseconds=3))
    times.append(loop.time())
    await ctx.sleep(0.25)
    times.append(loop.time())
    await asyncio.sleep(0)
    await ctx.sleep(0)
    times.append(loop.time())
    return times


def test_sleep_is_a_durable_timer_exact_to_the_microsecond():
    run = Run(sleeps)
    for _ in range(3):
        run.fire()
    year = 400 * 86_400
    assert run.result() == [0.0, 1.5, year + 1.500003, year + 1.750003, year + 1.750003]
    assert run.kinds.count("TimerStarted") == 3
    assert "TimerCancelled" not in run.kinds


@workflow
async def shields(ctx: Context) -> list[str]:
    inner = asyncio.create_task(ctx.activity(STEP, "a"))
    try:
        await asyncio.wait_for(asyncio.shield(inner), 5)
    except TimeoutError:
        return ["too late", await inner]
    raise AssertionError


def test_shield_keeps_the_activity_running():
    run = Run(shields)
    run.fire()
    assert list(run.pending) == ["a"]
    run.complete("a")
    assert run.result() == ["too late", "a"]


@workflow
async def cancels_a_task(ctx: Context) -> str:
    async def child() -> str:
        try:
            return await ctx.activity(STEP, "work")
        except asyncio.CancelledError as error:
            await ctx.activity(STEP, "clean up")
            raise RuntimeError(f"cancelled: {error}") from None

    task = asyncio.create_task(child())
    await asyncio.sleep(1)
    task.cancel("enough")
    try:
        return await task
    except RuntimeError as error:
        return str(error)


def test_a_cancelled_task_can_clean_up_with_activities():
    run = Run(cancels_a_task)
    run.fire()
    assert run.commands == ["CancelActivity", "ScheduleActivity"]
    run.complete("clean up")
    assert run.result() == "cancelled: enough"


@workflow
async def cancels_at_once(ctx: Context) -> str:
    task = asyncio.create_task(ctx.activity(STEP, "work"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return "done"


def test_an_activity_that_is_cancelled_in_its_own_drain_leaves_no_trace():
    run = Run(cancels_at_once)
    assert run.kinds == ["RunStarted", "RunCompleted"]
    assert run.result() == "done"


@workflow
async def iterates(ctx: Context) -> list[str]:
    async def labels():
        for label in "abc":
            yield await ctx.activity(STEP, label)

    return [label async for label in labels()]


def test_asynchronous_generators_work():
    run = Run(iterates)
    for label in "abc":
        run.complete(label)
    assert run.result() == ["a", "b", "c"]


@workflow
async def names_tasks(ctx: Context) -> list[str]:
    first = asyncio.create_task(ctx.activity(STEP, "a"))
    second = asyncio.create_task(ctx.activity(STEP, "b"), name="mine")
    current = asyncio.current_task()
    assert current is not None
    await asyncio.wait([first, second])
    return [first.get_name(), second.get_name(), current.get_name(), str(len(asyncio.all_tasks()))]


def test_tasks_have_names_that_do_not_depend_on_other_runs():
    for _ in range(2):
        run = Run(names_tasks)
        run.complete("a")
        run.complete("b")
        names = run.result()
    assert names == ["Task-2", "mine", "tests.flow", "1"]


@pytest.mark.parametrize("labels", ["abc", "cba", "bca"])
def test_results_may_come_in_any_order(labels):
    run = Run(gathers)
    for label in labels:
        run.complete(label)
    assert run.result() == ["a", "b", "c"]


@workflow
async def waits_for_words(ctx: Context) -> list[str]:
    found: list[str] = []
    wrong: Any = "1"
    for wait in (
        lambda: ctx.sleep(wrong),
        lambda: ctx.wait_signal("word", timeout=wrong),
        lambda: ctx.wait_until(lambda: False, timeout=wrong),
    ):
        try:
            await wait()
        except TypeError as error:
            found.append(str(error))
    return found


def test_a_duration_that_is_no_number_is_refused():
    assert Run(waits_for_words).result() == ["A timer runs for a timedelta or a number of seconds, not '1'."] * 3
