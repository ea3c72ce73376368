"""The code whose recorded histories lie beside this file. Changing what it does breaks their replay, as it should."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from django_durable.definitions.activity import ActivityDefinition
from django_durable.definitions.signal import SignalDefinition
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine.context import Context
from django_durable.exceptions import ActivityError, ChildWorkflowError, FailureError


def work(label: str) -> str:
    return label


WORK: ActivityDefinition[[str], str] = ActivityDefinition(work, name="replay.work")
RATED: SignalDefinition[int] = SignalDefinition("rated", int)
WORKFLOWS: dict[str, WorkflowDefinition[..., Any]] = {}


def _workflow(function: Any) -> Any:
    definition = WorkflowDefinition(function, name=f"replay.{function.__name__}")
    WORKFLOWS[function.__name__] = definition
    return definition


@_workflow
async def order(ctx: Context, order_id: int) -> dict[str, Any]:
    receipt = await ctx.activity(WORK, f"charge {order_id}")
    packed, invoiced = await asyncio.gather(ctx.activity(WORK, "pack"), ctx.activity(WORK, "invoice"))
    await ctx.sleep(timedelta(days=3))
    try:
        rating = await ctx.wait_signal(RATED, timeout=timedelta(days=14))
    except TimeoutError:
        rating = None
    token = str(ctx.uuid4())
    number = ctx.side_effect(_number)
    return {"steps": [receipt, packed, invoiced], "rating": rating, "token": token, "number": number}


def _number() -> int:
    return 42


@_workflow
async def limits(ctx: Context) -> list[str]:
    """Asks for its commands in another order on 3.11 than later: wait_for was rewritten in 3.12."""
    results = await asyncio.gather(
        asyncio.wait_for(ctx.activity(WORK, "a"), 5),
        ctx.activity(WORK, "b"),
        asyncio.wait_for(ctx.activity(WORK, "c"), 50),
        asyncio.wait_for(ctx.wait_signal("word"), 500),
        return_exceptions=True,
    )
    return [result if isinstance(result, str) else type(result).__name__ for result in results]


@_workflow
async def race(ctx: Context) -> list[str]:
    tasks = {asyncio.create_task(ctx.activity(WORK, label)) for label in "abcdef"}
    order: list[str] = []
    while tasks and len(order) < 4:
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        order += [task.result() for task in done]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    order += [await earliest for earliest in asyncio.as_completed([ctx.activity(WORK, label) for label in "xyz"])]
    return order


@_workflow
async def groups(ctx: Context) -> list[str]:
    seen: list[str] = []
    semaphore = asyncio.Semaphore(2)

    async def one(label: str) -> None:
        async with semaphore, asyncio.timeout(60):
            seen.append(await ctx.activity(WORK, label))

    try:
        async with asyncio.TaskGroup() as group:
            for label in "abcd":
                group.create_task(one(label))
    except* ActivityError as errors:
        seen.extend(str(error) for error in errors.exceptions)
    return seen


@_workflow
async def cancelled(ctx: Context) -> None:
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def listens() -> None:
        while True:
            await queue.put(await ctx.wait_signal("word"))

    listener = asyncio.create_task(listens())
    try:
        while True:
            await ctx.activity(WORK, await queue.get())
    finally:
        listener.cancel()
        await asyncio.shield(ctx.activity(WORK, "clean up"))


@_workflow
async def handles(ctx: Context) -> list[str]:
    """Handlers that take what came early, refuse what does not fit, and are waited for at the end."""
    await ctx.activity(WORK, "open")
    seen: list[str] = []

    @ctx.on_signal("word")
    async def word(value: str) -> None:
        seen.append(await ctx.activity(WORK, value))

    @ctx.on_signal(RATED)
    def rated(value: int) -> None:
        seen.append(f"rated {value}")

    await ctx.wait_signal("stop")
    return seen


@_workflow
async def updated(ctx: Context) -> dict[str, int]:
    lines: dict[str, int] = {}

    def check(sku: str, count: int = 1) -> None:
        if count < 1:
            raise ValueError("nothing to add")

    @ctx.on_update("add", validator=check)
    def add(sku: str, count: int = 1) -> int:
        lines[sku] = lines.get(sku, 0) + count
        return lines[sku]

    @ctx.on_update("remove")
    async def remove(sku: str) -> None:
        await asyncio.sleep(1)
        del lines[sku]

    @ctx.on_update("check")
    async def slow_check() -> str:
        return await ctx.activity(WORK, "check")

    await ctx.wait_signal("stop")
    return lines


@_workflow
async def update_cut_short(ctx: Context) -> None:
    @ctx.on_update("check")
    async def check() -> str:
        return await ctx.activity(WORK, "check")

    await ctx.wait_signal("stop")
    raise RuntimeError("closed for today")


@_workflow
async def fails(ctx: Context) -> None:
    try:
        await ctx.activity(WORK, "a")
    except ActivityError as error:
        await ctx.activity(WORK, "compensate")
        raise RuntimeError("it did not work") from error


@_workflow
async def continues(ctx: Context, number: int) -> None:
    @ctx.on_signal("job")
    async def job(label: str) -> None:
        await ctx.activity(WORK, label)

    await ctx.activity(WORK, await ctx.wait_signal("word"))
    await ctx.wait_signal("end")
    ctx.continue_as_new(number + 1)


@_workflow
async def paused(ctx: Context) -> list[str]:
    """A condition that time makes true, which no pause may make it notice."""
    began = ctx.now()
    waits = asyncio.create_task(ctx.wait_until(lambda: ctx.now() - began > timedelta(seconds=3)))
    seen = [await ctx.activity(WORK, "first"), await ctx.wait_signal("word")]
    await waits
    return [*seen, await ctx.activity(WORK, "last")]


@_workflow
async def reset(ctx: Context) -> list[str]:
    """Copied twice from other runs: ids and keys are those of the run in which they were made."""
    seen = [str(ctx.info.run_id)]
    left = asyncio.create_task(ctx.activity(WORK, "left"))
    seen.append(await ctx.wait_signal("word"))
    seen.append(str(ctx.info.run_id))
    seen.append(await ctx.activity(WORK, str(ctx.info.run_id)))
    return [*seen, await left, str(ctx.info.run_id)]


@_workflow
async def patched(ctx: Context) -> list[str]:
    seen = [await ctx.activity(WORK, "first")]
    for number in range(2):
        if ctx.patched("twice"):
            seen += await asyncio.gather(ctx.activity(WORK, f"left {number}"), ctx.activity(WORK, f"right {number}"))
    ctx.deprecate_patch("settled")
    return seen


@_workflow
async def batch(ctx: Context) -> list[str]:
    """A batch that is lost while some of it is under way, beside branches."""

    async def twice(label: str) -> str:
        if label == "c":
            await ctx.activity(WORK, "c twice")
        return await ctx.activity(WORK, label)

    mapped: list[Any] = await asyncio.gather(
        ctx.map(twice, list("abcdefg"), max_concurrency=3, tolerated_failures=1),
        ctx.parallel([ctx.wait_until(lambda: False, timeout=5), ctx.activity(WORK, "x")], min_successful=3),
    )
    return [one.status for one in mapped[0]]


@_workflow
async def until(ctx: Context) -> list[str]:
    names: list[str] = []
    order: list[str] = []

    @ctx.on_signal("approve")
    def approve(name: str) -> None:
        names.append(name)

    async def after(count: int, label: str) -> None:
        await ctx.wait_until(lambda: len(names) >= count, timeout=timedelta(hours=1))
        order.append(await ctx.activity(WORK, label))

    await asyncio.gather(after(2, "second"), after(1, "first"))
    try:
        await ctx.wait_until(lambda: len(names) > 2, timeout=60)
    except TimeoutError:
        order.append("no third")
    return order


@_workflow
async def child(ctx: Context, label: str) -> str:
    return label


CHILD: WorkflowDefinition[[str], str] = WORKFLOWS["child"]
NAMED = CHILD.using(workflow_id="named")


@_workflow
async def children(ctx: Context) -> list[Any]:
    """Children at once, a named one, one whose id is taken, one that fails."""
    first = await asyncio.gather(
        asyncio.wait_for(ctx.child_workflow(CHILD, "a"), 500),
        ctx.child_workflow(CHILD, "b"),
        ctx.child_workflow(NAMED, "c"),
        return_exceptions=True,
    )
    told: list[Any] = [*first]
    handle = await ctx.start_child(CHILD, "d")
    await ctx.activity(WORK, handle.workflow_id)
    await handle.signal("word", "hello")
    try:
        await ctx.start_child(NAMED, "e")
    except ChildWorkflowError as error:
        told.append(error.type)
    try:
        told.append(await handle)
    except ChildWorkflowError as error:
        told.append(error.status)
    return [str(one) for one in told]


@_workflow
async def gives_children_up(ctx: Context) -> None:
    handle = await ctx.start_child(CHILD, "detached")
    try:
        await ctx.child_workflow(CHILD, "awaited")
    finally:
        await handle.cancel("the parent is ending")
        await ctx.activity(WORK, "clean up")


@_workflow
async def tells_others(ctx: Context) -> list[str]:
    other, told = ctx.get_workflow("other"), []
    try:
        await asyncio.gather(other.signal("word", 1), other.signal("word", 2))
        await other.cancel("enough")
    except FailureError as error:
        told.append(error.type)
    return told


@_workflow
async def called_back(ctx: Context) -> list[Any]:
    first = ctx.callback("approve", returns=bool, timeout=500)
    again = ctx.callback("approve", returns=bool)
    await ctx.activity(WORK, first.token)
    told: list[Any] = [await first]
    paid = ctx.callback("paid", returns=int)
    try:
        async with asyncio.timeout(100):
            await paid
    except TimeoutError:
        told.append("not yet")
    for promise in (paid, again):
        try:
            told.append(await promise)
        except ActivityError as error:
            told.append(error.type)
    return told


@_workflow
async def gives_calls_up(ctx: Context) -> list[str]:
    calls = [
        asyncio.ensure_future(ctx.activity(WORK.using(cancellation=how), how)) for how in ("try", "wait", "abandon")
    ]
    await ctx.activity(WORK, "first")
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    await ctx.activity(WORK, "last")
    return [str(call.cancelled()) for call in calls]


@_workflow
async def saga(ctx: Context) -> None:
    async def cancel_hotel() -> None:
        await ctx.activity(WORK, "cancel hotel 1")
        await ctx.sleep(60, label="the office opens")
        await ctx.activity(WORK, "cancel hotel 2")

    with ctx.scope("booking"):
        await ctx.activity(WORK.using(label="to Rome"), "flight")
        ctx.compensate(WORK, "cancel flight")
        async with ctx.scope("hotel"):
            await ctx.activity(WORK, "hotel")
            ctx.compensate(cancel_hotel)
    await ctx.activity(WORK, "pay")


@_workflow
async def surrounded(ctx: Context, label: str) -> str:
    """Its start had surroundings, which are for its activities: its own code sees nothing of them."""
    return await ctx.activity(WORK, label)
