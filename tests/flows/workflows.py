"""Workflows of the tests."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django_durable import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    Context,
    Debounce,
    FailureError,
    Retry,
    RetryAfter,
    durable,
)
from tests.flows import (  # noqa: F401
    activities,
    computing,
    errands,
    functions,
    lasting,
    sagas,
    serving,
    showing,
    surroundings,
)

approved = durable.signal("approved", str)


noted = durable.signal("noted", str)


@durable.workflow
async def notes(ctx: Context) -> list[str]:
    """Collects what its handlers are told, each through an activity, until it is told to stop."""
    seen: list[str] = []

    @ctx.on_signal(noted)
    async def note(word: str) -> None:
        seen.append(await ctx.activity(activities.repeat, word))

    @ctx.on_signal("count")
    def count(number: int) -> None:
        seen.append(str(number))

    await ctx.wait_signal("stop")
    return seen


rename = durable.update("rename")


@durable.workflow
async def cart(ctx: Context, limit: int = 10) -> dict[str, int]:
    """A shopping cart that is kept by updates until it is checked out."""
    lines: dict[str, int] = {}
    names: list[str] = []
    done = asyncio.Event()

    def check(sku: str, count: int = 1) -> None:
        if lines.get(sku, 0) + count > limit:
            raise ValueError(f"at most {limit} of {sku}")

    @ctx.on_update("add", validator=check)
    def add(sku: str, count: int = 1) -> int:
        lines[sku] = lines.get(sku, 0) + count
        return lines[sku]

    @ctx.on_update(rename)
    async def renames(name: str) -> str:
        names.append(await ctx.activity(activities.repeat, name))
        return names[-1]

    @ctx.on_update("at_gate")
    async def at_gate(name: str) -> str:
        return await ctx.activity(activities.wait_for_gate, name)

    @ctx.on_update("nap")
    async def nap() -> None:
        await ctx.sleep(3_600)

    @ctx.on_update("break")
    def breaks() -> None:
        raise KeyError("no such line")

    @ctx.on_update("check_out")
    async def check_out() -> str:
        done.set()
        return "thank you"

    @ctx.on_query("lines")
    def show() -> dict[str, int]:
        return lines

    @ctx.on_query("count")
    async def count(sku: str, *, plus: int = 0) -> int:
        return lines[sku] + plus

    @ctx.on_query("sleeps")
    async def sleeps() -> None:
        await ctx.sleep(1)

    @ctx.on_query("hangs")
    def hangs() -> None:
        while True:
            pass

    @ctx.on_signal("fail")
    def fail() -> None:
        raise RuntimeError("told to fail")

    await done.wait()
    return lines


@durable.workflow
async def generations(ctx: Context, total: int = 0) -> int:
    """Counts by updates, and continues as new after every fifth; ends when told."""
    counted = 0
    enough = asyncio.Event()
    over = False

    @ctx.on_update("count")
    async def count() -> int:
        nonlocal counted, total
        counted, total = counted + 1, total + 1
        number = total
        if counted >= 5:
            enough.set()
        await ctx.activity(activities.nothing)
        return number

    @ctx.on_update("finish")
    def finish() -> int:
        nonlocal over
        over = True
        enough.set()
        return total

    await enough.wait()
    if over:
        return total
    await ctx.handlers_finished()
    ctx.continue_as_new(total)


@durable.workflow
async def meddles(ctx: Context) -> str:
    """Has a validator that does what it must not do."""
    event = asyncio.Event()

    def check() -> None:
        event.set()

    @ctx.on_update("set", validator=check)
    def sets() -> None: ...

    @ctx.on_update("really")
    def really() -> str:
        event.set()
        return "set"

    await event.wait()
    return "over"


@durable.workflow
async def breaks_on_signal(ctx: Context) -> None:
    @ctx.on_signal("break")
    def breaks(what: str) -> None:
        raise ValueError(f"broke {what}")

    await asyncio.Event().wait()


@durable.workflow
async def echo(ctx: Context, value: Any) -> Any:
    return value


@durable.workflow
async def chain(ctx: Context, steps: int) -> int:
    """Sequential no-op activities."""
    total = 0
    for _ in range(steps):
        total = await ctx.activity(activities.add, total, 1)
    return total


@durable.workflow
async def chain_async(ctx: Context, steps: int) -> int:
    total = 0
    for _ in range(steps):
        total += await ctx.activity(activities.nothing_async, 1)
    return total


@durable.workflow
async def fan_out(ctx: Context, width: int) -> int:
    return sum(await asyncio.gather(*(ctx.activity(activities.add, number, 0) for number in range(width))))


@durable.workflow
async def effects(ctx: Context, key: str, steps: int, seconds: float = 0.0) -> list[str]:
    """Alternates ordinary and exactly-once effects."""
    done = []
    for step in range(steps):
        kind = activities.record_once if step % 2 else activities.record
        done.append(await ctx.activity(kind, "atomic" if step % 2 else "plain", f"{key}/{step}", seconds))
    return done


@durable.workflow
async def call(ctx: Context, name: str, args: list[Any]) -> Any:
    """Calls one activity by name."""
    return await ctx.activity(durable.activity_named(name), *args)


@durable.workflow
async def catch(ctx: Context, name: str, args: list[Any]) -> dict[str, Any]:
    """Calls one activity and describes how it failed."""
    try:
        await ctx.activity(durable.activity_named(name), *args)
    except ActivityError as error:
        return {
            "type": error.type,
            "message": error.message,
            "attempts": error.attempts,
            "timeout": error.timeout,
            "interrupted": error.interrupted,
            "cause": str(error.cause) if error.cause else None,
            "traceback": bool(error.traceback),
            "data": error.data,
        }
    return {}


@durable.workflow
async def nap(ctx: Context, seconds: float) -> str:
    await ctx.sleep(timedelta(seconds=seconds))
    return "rested"


@durable.workflow
async def approval(ctx: Context, patience: float = 60.0) -> str:
    try:
        return await ctx.wait_signal(approved, timeout=timedelta(seconds=patience))
    except TimeoutError:
        return "nobody came"


@durable.workflow
async def collect_signals(ctx: Context, count: int) -> list[str]:
    return [await ctx.wait_signal(approved) for _ in range(count)]


@durable.workflow
async def drain_signals(ctx: Context, name: str) -> list[str]:
    """Takes signals until ``name`` comes."""
    taken: list[str] = []
    while not taken or taken[-1] != name:
        taken.append(await ctx.wait_signal(approved))
    return taken


@durable.workflow
async def race_with_timer(ctx: Context, seconds: float, limit: float) -> str:
    try:
        return await asyncio.wait_for(ctx.activity(activities.record, "race", ctx.info.workflow_id, seconds), limit)
    except TimeoutError:
        return "too late"


@durable.workflow
async def race_atomic(ctx: Context, seconds: float, limit: float) -> str:
    try:
        return await asyncio.wait_for(
            ctx.activity(activities.record_once, "race", ctx.info.workflow_id, seconds), limit
        )
    except TimeoutError:
        return "too late"


@durable.workflow
async def clean_up_when_cancelled(ctx: Context, key: str) -> str:
    try:
        await ctx.sleep(timedelta(hours=1))
    except asyncio.CancelledError:
        await ctx.activity(activities.record, "cleanup", key)
        raise
    return "never"


@durable.workflow
async def fail(ctx: Context, message: str) -> None:
    raise ValueError(message)


@durable.workflow
async def never_ends(ctx: Context) -> None:
    await asyncio.Event().wait()


@durable.workflow
async def spin(ctx: Context, seconds: float) -> str:
    """Breaks the rule: keeps the engine busy."""
    deadline = time.monotonic() + seconds  # durable: ignore[W101]
    while time.monotonic() < deadline:  # durable: ignore[W101]
        pass
    return "done"


@durable.workflow
async def spin_when_told(ctx: Context, seconds: float) -> str:
    """Breaks the rule once it goes on from its history."""
    word = await ctx.wait_signal(approved)
    deadline = time.monotonic() + seconds  # durable: ignore[W101]
    while time.monotonic() < deadline:  # durable: ignore[W101]
        pass
    return word


_versions = {"changed": "add"}


@durable.workflow
async def changing(ctx: Context, value: int) -> int:
    """Its code can be changed by the test, as a deploy would."""
    name = _versions["changed"]
    if name == "add":
        first = await ctx.activity(activities.add, value, 1)
    else:
        first = await ctx.activity(activities.nothing, value)
    word = await ctx.wait_signal(approved)
    return first + len(word)


@durable.workflow
async def everything(ctx: Context, key: str) -> dict[str, Any]:
    """A bit of all that the engine offers."""
    receipt = await ctx.activity(activities.record_once, "everything", f"{key}/paid")
    packed, invoiced = await asyncio.gather(
        ctx.activity(activities.record, "everything", f"{key}/packed"),
        ctx.activity(activities.record, "everything", f"{key}/invoiced"),
    )
    await asyncio.sleep(0.05)
    word = await ctx.wait_signal(approved, timeout=timedelta(seconds=60))
    return {"receipt": receipt, "packed": packed, "invoiced": invoiced, "word": word, "id": str(ctx.uuid4())}


@durable.workflow
async def atomic_then_count(ctx: Context, key: str) -> int:
    await ctx.activity(activities.record_once, "atomic", key)
    return await ctx.activity(activities.add, 1, 1)


@durable.workflow
async def typed(ctx: Context, parcel: activities.Parcel, extra: Decimal) -> activities.Parcel:
    return await ctx.activity(activities.stamp, parcel, extra)


@durable.workflow
async def unstorable(ctx: Context) -> float:
    return float("nan")


@durable.workflow
async def fail_with_cause(ctx: Context) -> None:
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError("outer") from error


@durable.workflow
async def naps(ctx: Context, count: int, seconds: float) -> int:
    """Many timers of one run at once."""
    await asyncio.gather(*(ctx.sleep(timedelta(seconds=seconds)) for _ in range(count)))
    return count


@durable.workflow
async def all_in_one_place(ctx: Context, keys: list[str]) -> list[str]:
    """Activities of different priorities that all wait for one slot."""
    kinds = [activities.record.using(priority=int(key)) for key in keys]
    return await asyncio.gather(*(ctx.activity(kind, "priority", key) for kind, key in zip(kinds, keys, strict=True)))


@durable.workflow
async def until_told(ctx: Context) -> int:
    """Counts signals until the one named "stop"."""
    count = 0
    while await ctx.wait_signal(approved) != "stop":
        count += 1
    return count


@durable.workflow
async def wait_at_gate(ctx: Context, gate: str, steps: int = 0) -> str:
    """One activity that the test lets go on, then some more."""
    name = await ctx.activity(activities.wait_for_gate, gate)
    for step in range(steps):
        await ctx.activity(activities.record, "after gate", f"{name}/{step}")
    return name


visits: list[str] = []
"""Workflow ids in the order in which the code of ``visited`` began to run, replays included."""


@durable.workflow
async def visited(ctx: Context) -> str:
    visits.append(ctx.info.workflow_id)
    return await ctx.wait_signal(approved)


@durable.workflow
async def hold_then_collect(ctx: Context, gate: str, count: int) -> list[str]:
    """Stays with its worker until the gate opens, then takes what has come."""
    await ctx.activity(activities.wait_for_gate, gate)
    return [await ctx.wait_signal(approved) for _ in range(count)]


@durable.workflow
async def gather_at_gate(ctx: Context, gate: str, width: int) -> int:
    """Many activities that all wait for one gate."""
    return len(await asyncio.gather(*(ctx.activity(activities.recorded_at_gate, gate) for _ in range(width))))


@durable.workflow
async def exits(ctx: Context, code: int) -> None:
    """Poison: takes its process along whenever it runs."""
    os._exit(code)


@durable.workflow
async def hangs(ctx: Context, seconds: float) -> None:
    """Poison: stays in C code, where no exception can reach it."""
    time.sleep(seconds)  # durable: ignore[W104]


@durable.workflow
async def wait_in_every_way(ctx: Context, key: str) -> dict[str, Any]:
    """A timer, a retry, and a signal that has an hour's time; says what time it was."""
    begun = ctx.now()
    await ctx.sleep(timedelta(seconds=1))
    woken = ctx.now()
    attempt = await ctx.activity(activities.fail_until, key, 2)
    word = await ctx.wait_signal(approved, timeout=timedelta(hours=1))
    return {"begun": begun.isoformat(), "woken": woken.isoformat(), "attempt": attempt, "word": word}


@durable.workflow(run_timeout=timedelta(seconds=0.3))
async def limited(ctx: Context) -> None:
    await asyncio.Event().wait()


@durable.workflow
async def time_of_start(ctx: Context) -> list[str]:
    return [ctx.now().isoformat(), ctx.info.started_at.isoformat()]


@durable.workflow
async def counts_down(ctx: Context, left: int, done: int = 0) -> list[Any]:
    """Continues as new until nothing is left; one effect in each run."""
    await ctx.activity(activities.record_once, "counted", f"{ctx.info.workflow_id}/{left}")
    if left:
        ctx.continue_as_new(left - 1, done=done + 1)
    return [done, ctx.info.attempt, str(ctx.info.continued_from)]


@durable.workflow
async def takes_in_turn(ctx: Context, taken: list[str]) -> list[str]:
    """Continues as new after each signal."""
    word = await ctx.wait_signal(approved)
    if word == "stop":
        return taken
    ctx.continue_as_new([*taken, word])


@durable.workflow
async def leaves_the_rest(ctx: Context, taken: list[str]) -> list[str]:
    """Takes one signal of the many that are there, and leaves the others to the next run."""
    if not taken:
        await ctx.wait_signal("go")
    taken = [*taken, await ctx.wait_signal(approved)]
    if taken[-1] == "stop":
        return taken
    ctx.continue_as_new(taken)


@durable.workflow
async def leaves_an_activity(ctx: Context, gate: str, again: bool = True) -> str:
    """Continues as new while an activity is under way."""
    if again:
        left = asyncio.create_task(ctx.activity(activities.wait_for_gate, gate))
        await asyncio.wait([left], timeout=0.05)
        ctx.continue_as_new(gate, again=False)
    await ctx.sleep(timedelta(milliseconds=50))
    return "done"


@durable.workflow
async def continues_for_ever(ctx: Context, number: int) -> None:
    await ctx.sleep(timedelta(milliseconds=20))
    ctx.continue_as_new(number + 1)


@durable.workflow
async def grows(ctx: Context) -> int:
    """Takes signals until it is told to stop, however long its history becomes."""
    while await ctx.wait_signal(approved) != "stop":
        pass
    return ctx.info.events


@durable.workflow
async def call_elsewhere(ctx: Context, name: str, args: list[Any]) -> Any:
    """Calls one activity by name, in the queue ``elsewhere``."""
    return await ctx.activity(durable.activity_named(name).using(queue="elsewhere"), *args)


@durable.workflow
async def share(ctx: Context) -> dict[str, list[str]]:
    """Hands a list to activities and changes what comes back."""
    own = ["workflow"]
    returned = await ctx.activity(activities.lengthen, own)
    returned.append("changed")
    return {"own": own, "returned": returned, "kept": await ctx.activity(activities.what_was_kept)}


@durable.workflow
async def hold_engine(ctx: Context, gate: str) -> str:
    """Breaks the rule: keeps the engine until the test opens the gate."""
    activities.gates[gate].wait(30)
    return gate


@durable.workflow
async def send_much(ctx: Context, calls: int, size: int) -> int:
    """Asks for many large activities between two waits."""
    return sum(await asyncio.gather(*(ctx.activity(activities.size_of, "x" * size) for _ in range(calls))))


@durable.workflow
async def record_then_collect(ctx: Context, gate: str, count: int) -> list[str]:
    """An effect at a gate, then as many signals."""
    await ctx.activity(activities.recorded_at_gate, gate)
    return [await ctx.wait_signal(approved) for _ in range(count)]


SOON = Retry(max_attempts=3, initial_interval=timedelta(milliseconds=20), jitter=False)


@durable.workflow(retry=SOON)
async def fails_at_first(ctx: Context, times: int) -> list[Any]:
    """Fails that many times, with an effect in each run."""
    await ctx.activity(activities.record_once, "tried", f"{ctx.info.workflow_id}/{ctx.info.attempt}")
    if ctx.info.attempt <= times:
        raise ValueError(f"try {ctx.info.attempt}")
    return [ctx.info.attempt, str(ctx.info.continued_from)]


@durable.workflow
async def fails_with(ctx: Context, type: str, non_retryable: bool = False) -> int:
    if ctx.info.attempt == 1:
        raise ApplicationError("refused", type=type, non_retryable=non_retryable)
    return ctx.info.attempt


@durable.workflow(retry=SOON)
async def fails_with_its_activity(ctx: Context, key: str) -> None:
    await ctx.activity(activities.fail_for_good, key)


@durable.workflow(retry=SOON)
async def says_when_to_try_again(ctx: Context) -> int:
    if ctx.info.attempt == 1:
        raise RetryAfter("not yet", delay=timedelta(milliseconds=10))
    return ctx.info.attempt


@durable.workflow(retry=Retry(when=lambda error: "once more" in str(error), initial_interval=timedelta(0)))
async def fails_as_told(ctx: Context, word: str) -> int:
    if ctx.info.attempt == 1:
        raise ValueError(word)
    return ctx.info.attempt


@durable.workflow
async def fails_by_itself(ctx: Context, word: str) -> int:
    if ctx.info.attempt == 1:
        raise ValueError(word)
    return ctx.info.attempt


@durable.workflow(retry=SOON)
async def fails_after_a_signal(ctx: Context) -> list[str]:
    word = await ctx.wait_signal(approved)
    if word == "fail":
        raise ValueError("told to")
    return [word, await ctx.wait_signal(approved)]


@durable.workflow(retry=SOON)
async def fails_when_cancelled(ctx: Context) -> None:
    try:
        await ctx.sleep(timedelta(hours=1))
    except asyncio.CancelledError:
        raise ValueError("the cleanup failed") from None


@durable.workflow(retry=SOON)
async def fails_after_going_on(ctx: Context, done: int) -> list[int]:
    """Fails once in each piece of work."""
    if ctx.info.attempt == 1:
        raise ValueError(f"piece {done}")
    if done == 2:
        return [done, ctx.info.attempt]
    ctx.continue_as_new(done + 1)


@durable.workflow
async def daily(ctx: Context, day: int, child: bool = False) -> int:
    """Begins anew each day, until it is told to stop; then it tells which day that is."""
    if child:
        await ctx.child_workflow(echo, day)
    try:
        await ctx.wait_signal("stop", timeout=timedelta(days=1))
    except TimeoutError:
        ctx.continue_as_new(day + 1, child)
    return day


@durable.workflow(name="flows.edition", version="1", default=True)
async def first_edition(ctx: Context) -> str:
    word = await ctx.wait_signal(approved)
    return f"first {word}"


@durable.workflow(name="flows.edition", version="2")
async def second_edition(ctx: Context) -> str:
    word = await ctx.wait_signal(approved)
    return f"second {word}"


@durable.workflow
async def amended(ctx: Context) -> list[str]:
    """Its code of today has a step that its code of ``_versions["amended"] = "before"`` does not have."""
    seen = [await ctx.activity(activities.repeat, "one")]
    if _versions.get("amended") != "before" and ctx.patched("two"):
        seen.append(await ctx.activity(activities.repeat, "two"))
    seen.append(await ctx.wait_signal(approved))
    return seen


@durable.workflow
async def batch(ctx: Context, numbers: list[int], at_once: int, tolerated: int | None = None) -> list[str]:
    """Doubles each number; those below zero cannot be doubled."""
    result = await ctx.map(activities.double, numbers, max_concurrency=at_once, tolerated_failures=tolerated)
    return [f"{one.status} {one.result}" for one in result]


@durable.workflow
async def council(ctx: Context, votes: int, patience: float) -> list[str]:
    """Waits until enough have voted, or as long as it may."""
    names: list[str] = []

    @ctx.on_signal("vote")
    async def vote(name: str) -> None:
        names.append(await ctx.activity(activities.repeat, name))

    try:
        await ctx.wait_until(lambda: len(names) >= votes, timeout=patience)
    except TimeoutError:
        names.append("nobody else")
    return names


# Parents and children


@durable.workflow
async def adds(ctx: Context, a: int, b: int) -> int:
    return await ctx.activity(activities.add, a, b)


@durable.workflow
async def parent_of_debounced(ctx: Context) -> Any:
    return await ctx.child_workflow(echo.using(debounce=Debounce("key", wait=timedelta(seconds=1))), 1)


@durable.workflow
async def parent_of_sum(ctx: Context, count: int) -> int:
    """Children at once, then their sum."""
    return sum(await asyncio.gather(*(ctx.child_workflow(adds, number, 1) for number in range(count))))


@durable.workflow
async def parent_by_name(ctx: Context, name: str, args: list[Any], options: dict[str, Any]) -> Any:
    """Awaits one child."""
    return await ctx.child_workflow(durable.workflow_named(name).using(**read(options)), *args)


def read(options: dict[str, Any]) -> Any:
    """Options as they were given: JSON has no durations."""
    return {
        name: timedelta(seconds=value) if name in ("run_timeout", "start_delay") else value
        for name, value in options.items()
    }


@durable.workflow
async def parent_catches(ctx: Context, name: str, args: list[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Awaits one child and describes how it failed."""
    try:
        await ctx.child_workflow(durable.workflow_named(name).using(**read(options)), *args)
    except ChildWorkflowError as error:
        causes, cause = [], error.cause
        while isinstance(cause, FailureError):
            causes.append([cause.type, cause.message])
            cause = cause.cause
        return {
            "type": error.type,
            "message": error.message,
            "status": error.status,
            "workflow_id": error.workflow_id,
            "causes": causes,
        }
    return {}


@durable.workflow
async def parent_that_returns(ctx: Context, name: str, args: list[Any], options: dict[str, Any]) -> list[str]:
    """Starts a child and ends."""
    handle = await ctx.start_child(durable.workflow_named(name).using(**read(options)), *args)
    return [handle.workflow_id, str(handle.run_id)]


@durable.workflow
async def parent_that_waits(ctx: Context, name: str, args: list[Any], options: dict[str, Any]) -> Any:
    """Starts a child and waits to be told what to do with it, or with itself."""
    handle = await ctx.start_child(durable.workflow_named(name).using(**read(options)), *args)
    while True:
        match await ctx.wait_signal(approved):
            case "await":
                return await handle
            case "await twice":
                return [await handle, await handle]
            case "cancel":
                await handle.cancel("the parent says so")
            case "signal":
                await handle.signal(approved("from the parent"))
            case "continue":
                ctx.continue_as_new(name, args, options)
            case "fail":
                raise ValueError("the parent fails")
            case _:
                return "left"


@durable.workflow
async def parent_with_limit(ctx: Context, name: str, args: list[Any], options: dict[str, Any], seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds):
            await ctx.child_workflow(durable.workflow_named(name).using(**read(options)), *args)
    except TimeoutError:
        return "too late"
    return "in time"


@durable.workflow
async def family(ctx: Context, depth: int) -> list[str]:
    """A child of a child of a child."""
    parent = ctx.info.parent
    below = await ctx.child_workflow(family, depth - 1) if depth else []
    return [parent.workflow_id if parent else "nobody", *below]


@durable.workflow
async def never_ends_below(ctx: Context, depth: int) -> None:
    """Parents and children that all wait, with an effect when they are cancelled."""
    try:
        if depth:
            await ctx.child_workflow(never_ends_below.using(workflow_id=f"below-{depth - 1}"), depth - 1)
        else:
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        await ctx.activity(activities.record, "cleaned up", str(depth))
        raise


@durable.workflow(retry=SOON)
async def parent_tried_again(ctx: Context) -> list[Any]:
    """Leaves a child behind in its first try."""
    await ctx.start_child(never_ends.using(workflow_id=f"left-{ctx.info.attempt}"))
    if ctx.info.attempt == 1:
        raise ValueError("once")
    return [ctx.info.attempt]


@durable.workflow
async def signals_other(ctx: Context, workflow_id: str, words: list[str]) -> list[str]:
    """Signals another workflow, and tells what came of it."""
    told = []
    for word in words:
        try:
            await ctx.get_workflow(workflow_id).signal(approved(word))
            told.append("sent")
        except FailureError as error:
            told.append(error.type)
    return told


@durable.workflow
async def cancels_other(ctx: Context, workflow_id: str) -> str:
    try:
        await ctx.get_workflow(workflow_id).cancel("another workflow says so")
    except FailureError as error:
        return error.type
    return "asked"


@durable.workflow
async def ends_of_child(ctx: Context, workflow_id: str, limited: bool) -> list[str]:
    """How a child ended that others end."""
    child = never_ends.using(workflow_id=workflow_id)
    if limited:
        child = child.using(run_timeout=timedelta(seconds=0.3))
    try:
        await ctx.child_workflow(child)
    except ChildWorkflowError as error:
        return [error.status, error.type, error.message]
    return []


@durable.workflow
async def delays_child(ctx: Context, workflow_id: str) -> None:
    await ctx.child_workflow(echo.using(workflow_id=workflow_id, start_delay=timedelta(hours=1)), 1)


@durable.workflow
async def parent_of_echoes(ctx: Context, count: int) -> int:
    return len(await asyncio.gather(*(ctx.child_workflow(echo, number) for number in range(count))))


@durable.workflow
async def batch_of_children(ctx: Context, numbers: list[int]) -> list[Any]:
    """Two children at a time."""
    result = await ctx.map(durable.workflow_named("flows.echo"), numbers, max_concurrency=2)
    return [one.result for one in result]


@durable.workflow
async def clan(ctx: Context, key: str, steps: int, seconds: float, again: int = 1) -> list[int]:
    """Two generations, one child with an id of its own, and another run of its own in between."""
    named = effects.using(workflow_id=f"{key}-{again}-named")
    done = await asyncio.gather(
        ctx.child_workflow(effects, f"{key}-{again}-a", steps, seconds),
        ctx.child_workflow(named, f"{key}-{again}-b", steps, seconds),
        ctx.child_workflow(parent_of_sum, 3),
    )
    if again:
        ctx.continue_as_new(key, steps, seconds, again=again - 1)
    return [len(done[0]), len(done[1]), done[2]]


faults: dict[str, BaseException] = {}
"""What ``stumbles`` meets at each of its steps, as its code of today."""


@durable.workflow(on_error="block")
async def stumbles(ctx: Context, key: str) -> list[str]:
    """Its code may have a fault in any step."""
    ctx.compensate(activities.record, "undone", key)
    seen = []
    for step in ("start", "activity", "signal"):
        if f"{key}/{step}" in faults:
            raise faults[f"{key}/{step}"]
        if step == "start":
            seen.append(await ctx.activity(activities.record, "step", f"{key}/{step}"))
        elif step == "activity":
            seen.append(await ctx.wait_signal(approved))
    return seen


@durable.workflow
async def mends(ctx: Context, kind: str, key: str) -> list[str]:
    """Two activities at once, of which the first may fail, between two others; then what a signal says."""
    mend = durable.activity_named(f"flows.{kind}")
    seen = [await ctx.activity(mend, f"{key}/before")]
    seen += await asyncio.gather(ctx.activity(mend, f"{key}/left"), ctx.activity(mend, f"{key}/right"))
    seen.append(await ctx.activity(mend, f"{key}/after"))
    return seen


@durable.workflow
async def mends_and_waits(ctx: Context, key: str) -> list[str]:
    seen = [await ctx.activity(activities.mend, f"{key}/1")]
    seen.append(await ctx.wait_signal(approved))
    seen.append(await ctx.activity(activities.mend, f"{key}/2"))
    seen.append(await ctx.wait_signal(approved))
    return seen


@durable.workflow
async def mends_by_children(ctx: Context, key: str) -> list[str]:
    good, bad = await asyncio.gather(
        ctx.child_workflow(mends_by_name, f"{key}/good"), ctx.child_workflow(mends_by_name, f"{key}/bad")
    )
    return [good, bad]


@durable.workflow
async def mends_by_name(ctx: Context, key: str) -> str:
    if key.endswith("good"):
        await ctx.wait_signal(approved)
    return await ctx.activity(activities.mend, key)


@durable.workflow
async def waits_for_payment(ctx: Context) -> int:
    paid = ctx.callback("paid", returns=int)
    await ctx.activity(activities.repeat, paid.token)
    return await paid


@durable.workflow
async def continues_then_fails(ctx: Context, rounds: int) -> None:
    if rounds:
        ctx.continue_as_new(rounds - 1)
    raise ValueError("the last run fails")


@durable.workflow
async def pays_beside(ctx: Context, key: str, fails: bool = True) -> list[str]:
    """An atomic payment beside something that may fail once it is committed; or beside nothing, until a signal."""
    paying = asyncio.ensure_future(ctx.activity(activities.mend_once, f"{key}/paid"))
    if not fails:
        await ctx.wait_signal(approved)
        return [await paying]
    left = ctx.activity(activities.mend_once_paid, f"{key}/left", f"{key}/paid")
    return list(await asyncio.gather(paying, left))


@durable.workflow
async def steps_and_waits(ctx: Context, key: str) -> list[str]:
    """A step, two signals, an effect that is there exactly once, and another step."""
    seen = [await ctx.activity(activities.step, f"{key}/1")]
    seen += [await ctx.wait_signal(approved), await ctx.wait_signal(approved)]
    seen.append(await ctx.activity(activities.step_once, f"{key}/2"))
    seen.append(await ctx.activity(activities.step, f"{key}/3"))
    return seen


endless: set[str] = set()
"""Keys of runs whose code has got a loop without an end by now."""


@durable.workflow
async def may_spin(ctx: Context, key: str) -> None:
    await ctx.activity(activities.nothing)
    while key in endless:
        pass
    await ctx.wait_signal(approved)
