"""Updates are refused without a trace, or accepted, and then answered before the run ends."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from django_durable.definitions import update as updates
from django_durable.engine.context import Context
from django_durable.exceptions import NonDeterminismError, PayloadError, WorkflowSuspended
from django_durable.history import events
from django_durable.history.failures import Failure
from tests.unit.engine_harness import STEP, Run, accepted, workflow

RENAME = updates.UpdateDefinition("rename")


@dataclass
class Line:
    sku: str
    count: int = 1


def no_more_than(limit: int) -> Any:
    def check(line: Line) -> None:
        if line.count > limit:
            raise ValueError(f"at most {limit} of {line.sku}")

    return check


@workflow
async def shop(ctx: Context) -> list[str]:
    names: list[str] = []

    def is_open() -> None:
        if names:
            raise ValueError("sold out")

    @ctx.on_update("buy", validator=is_open)
    def buy(name: str) -> str:
        names.append(name)
        return name

    await ctx.wait_signal("stop")
    return names


def test_a_validator_without_parameters_is_asked_whatever_comes():
    run = Run(shop)
    assert run.refused("buy").type == "TypeError"
    assert run.refused("buy", "lamp", "bulb").type == "TypeError"
    run.update("buy", "lamp", id="u1")
    assert run.refused("buy", "bulb").message == "sold out"
    run.signal("stop")
    assert run.result() == ["lamp"]


@workflow
async def basket(ctx: Context) -> dict[str, int]:
    lines: dict[str, int] = {}
    names: list[str] = []

    @ctx.on_update("add", validator=no_more_than(10))
    def add(line: Line) -> int:
        lines[line.sku] = lines.get(line.sku, 0) + line.count
        return lines[line.sku]

    @ctx.on_update(RENAME)
    async def rename(name: str, *more: str, when: date | None = None) -> str:
        names.append(await ctx.activity(STEP, f"{name}{''.join(more)}{when or ''}"))
        return names[-1]

    @ctx.on_update("fails")
    async def fails() -> None:
        raise KeyError("no such thing")

    @ctx.on_update("unfit")
    def unfit() -> int:
        return "not a number"  # type: ignore[return-value]

    await ctx.wait_signal("stop")
    return lines


def test_an_update_is_carried_out_and_answered():
    run = Run(basket)
    run.update("add", {"sku": "lamp", "count": 2}, id="first")
    assert run.commands == ["CompleteUpdate"]
    run.update("add", line={"sku": "lamp"}, id="second")
    run.signal("stop")
    assert [run.reply("first"), run.reply("second")] == [2, 3]
    assert run.result() == {"lamp": 3}


def test_an_async_handler_is_answered_when_it_ends():
    run = Run(basket)
    run.update("rename", "a", "b", when="2026-03-01", id="u1")
    assert run.commands == ["ScheduleActivity"]
    run.signal("stop")
    assert not run.instance.closed, "an open update keeps the run open"
    run.complete("ab2026-03-01", "done")
    assert run.commands == ["CompleteUpdate", "CompleteRun"]
    assert run.reply("u1") == "done"
    run.result()


def test_an_exception_goes_to_the_caller_and_the_run_goes_on():
    run = Run(basket)
    run.update("fails")
    failure = run.reply("fails")
    assert isinstance(failure, Failure)
    assert (failure.type, failure.message) == ("KeyError", "'no such thing'")
    assert "test_engine_updates" in failure.traceback
    run.update("unfit")
    assert run.reply("unfit").type == "PayloadError"
    run.signal("stop")
    assert run.result() == {}


def test_a_validator_refuses_and_leaves_no_history():
    run = Run(basket)
    before = list(run.history)
    refusal = run.refused("add", {"sku": "lamp", "count": 11})
    assert (refusal.type, refusal.message) == ("ValueError", "at most 10 of lamp")
    assert run.history == before
    assert not run.instance.tainted
    run.signal("stop")
    assert run.result() == {}


@pytest.mark.parametrize(
    ("args", "kind", "words"),
    [
        (("add", {"sku": 5}), "PayloadError", "Expected `str`, got `int`"),
        (("add",), "TypeError", "missing a required argument: 'line'"),
        (("add", 1, 2), "TypeError", "too many positional arguments"),
        (("gone", 1), "UpdateRejected", "no handler for update 'gone' now. It has: 'add', 'rename', 'fails', 'unfit'"),
    ],
)
def test_what_does_not_fit_is_refused(args, kind, words):
    run = Run(basket)
    refusal = run.refused(*args)
    assert refusal.type == kind
    assert words in refusal.message
    run.evict()


async def without(ctx: Context) -> None:
    await ctx.wait_signal("stop")


async def with_other_arguments(ctx: Context) -> None:
    @ctx.on_update("add")
    def add(line: int) -> None: ...

    await ctx.wait_signal("stop")


def test_an_update_nobody_can_handle_any_more_is_a_difference():
    run = Run(basket)
    run.update("add", {"sku": "lamp"})
    with pytest.raises(NonDeterminismError) as caught:
        run.replay(workflow(without))
    assert caught.value.recorded.startswith("update add with")

    with pytest.raises(NonDeterminismError) as caught:
        run.replay(workflow(with_other_arguments))
    assert "does not fit its annotation" in caught.value.requested
    run.evict()


async def replies_otherwise(ctx: Context) -> None:
    @ctx.on_update("add")
    def add(line: Line) -> str:
        return "another value"

    await ctx.wait_signal("stop")


async def raises_instead(ctx: Context) -> None:
    @ctx.on_update("add")
    def add(line: Line) -> str:
        raise ValueError("no")

    await ctx.wait_signal("stop")


def test_the_value_of_a_reply_is_not_compared_but_its_kind_is():
    run = Run(basket)
    run.update("add", {"sku": "lamp"})
    run.replay(workflow(replies_otherwise)).evict()
    with pytest.raises(NonDeterminismError) as caught:
        run.replay(workflow(raises_instead))
    assert caught.value.requested == "the reply to update add: ValueError: no"
    assert "test_engine_updates" in caught.value.where
    run.evict()


@workflow
async def ends_with_it(ctx: Context) -> str:
    told = asyncio.Event()

    @ctx.on_update("finish")
    async def finish() -> str:
        told.set()
        return "finished"

    await told.wait()
    return "over"


def test_an_update_that_becomes_ready_in_the_closing_drain_is_answered_with_it():
    run = Run(ends_with_it)
    run.update("finish")
    assert run.commands == ["CompleteUpdate", "CompleteRun"]
    assert run.reply("finish") == "finished"
    assert run.result() == "over"


@workflow
async def breaks(ctx: Context) -> None:
    @ctx.on_update("slow")
    async def slow() -> str:
        return await ctx.activity(STEP, "slow")

    @ctx.on_update("shielded")
    async def shielded() -> str:
        try:
            return await ctx.activity(STEP, "shielded")
        except asyncio.CancelledError:
            return await ctx.activity(STEP, "rest")

    await ctx.wait_signal("stop")
    raise RuntimeError("the body's")


def test_open_updates_fail_with_the_error_of_the_body():
    run = Run(breaks)
    run.update("slow")
    run.update("shielded")
    run.signal("stop")
    assert run.reply("slow").message == "the body's"
    refusal = run.refused("slow")
    assert "is ending" in refusal.message
    run.complete("rest", "saved")
    assert run.reply("shielded") == "saved"
    assert run.failure.message == "the body's"
    run.check_replay()


def test_open_updates_of_a_cancelled_run_fail_as_cancelled():
    run = Run(breaks)
    run.update("slow")
    run.cancel("enough")
    assert run.commands == ["CancelActivity", "CompleteUpdate", "CancelRun"]
    assert (run.reply("slow").type, run.reply("slow").message) == ("CancelledError", "enough")
    run.check_replay()


@workflow
async def breaks_itself(ctx: Context) -> None:
    asked = asyncio.Event()

    @ctx.on_update("break")
    def break_() -> None:
        asked.set()

    await asked.wait()
    raise RuntimeError("the body's")


def test_an_update_that_breaks_the_body_is_answered():
    run = Run(breaks_itself)
    run.update("break")
    assert run.reply("break") is None
    assert run.failure.message == "the body's"
    run.check_replay()


@workflow
async def validates(ctx: Context) -> Any:
    told = asyncio.Event()
    numbers = ctx.random
    waiting = asyncio.create_task(told.wait())

    def check(what: str) -> None:
        if what == "activity":
            ctx.activity(STEP, "a").send(None)
        elif what == "random":
            random.Random(ctx.random.random())
        elif what == "uuid":
            ctx.uuid4()
        elif what == "handler":
            ctx.on_signal("x")(check)
        elif what == "set":
            told.set()
        elif what == "task":
            asyncio.ensure_future(told.wait()).cancel()
        elif what == "exit":
            raise SystemExit("no")

    async def waits(what: str) -> None:
        if what == "ok":
            return
        if what == "signal":
            await ctx.wait_signal("stop")
        await asyncio.sleep(0)

    @ctx.on_update("do", validator=check)
    def do(what: str) -> str:
        return what

    @ctx.on_update("wait", validator=waits)
    def wait(what: str) -> str:
        return what

    await ctx.wait_signal("stop")
    waiting.cancel()
    return numbers.random()


@pytest.mark.parametrize("what", ["activity", "random", "uuid", "handler", "exit"])
def test_a_validator_can_only_look(what):
    run = Run(validates)
    refusal = run.refused("do", what)
    assert refusal.type == ("SystemExit" if what == "exit" else "UnsupportedInWorkflow")
    assert not run.instance.tainted
    run.update("do", "ok")
    run.signal("stop")
    run.result()


@pytest.mark.parametrize("what", ["signal", "sleep"])
def test_a_validator_cannot_wait(what):
    run = Run(validates)
    assert run.refused("wait", what).type == "UnsupportedInWorkflow"
    run.update("wait", "ok")
    run.signal("stop")
    run.result()


def test_a_refusal_names_the_validator():
    run = Run(validates)
    assert run.refused("wait", "sleep").message.startswith("The validator of update 'wait' waits for something.")
    run.signal("stop")
    run.result()


@pytest.mark.parametrize("what", ["set", "task"])
def test_a_validator_that_has_changed_the_run_is_noticed(what):
    """The instance is no longer what its history makes of it: a worker replays the run."""
    run = Run(validates)
    assert run.refused("do", what).type == "UnsupportedInWorkflow"
    assert run.instance.tainted
    run.evict()


@workflow
async def is_stopped(ctx: Context) -> None:
    def check() -> None:
        raise WorkflowSuspended

    @ctx.on_update("do", validator=check)
    def do() -> None: ...

    await ctx.wait_signal("stop")


def test_what_stops_a_validator_from_outside_is_no_refusal():
    run = Run(is_stopped)
    with pytest.raises(WorkflowSuspended):
        run.instance.refusal(accepted("do"))
    run.evict()


@workflow
async def asks_too_much(ctx: Context) -> None:
    @ctx.on_update("renew")
    async def renew() -> None:
        ctx.continue_as_new()

    await ctx.wait_signal("stop")


def test_the_handler_of_an_update_cannot_continue_as_new():
    run = Run(asks_too_much)
    run.update("renew")
    assert run.reply("renew").type == "UnsupportedInWorkflow"
    assert "let the body call it" in run.reply("renew").message
    run.signal("stop")
    assert run.result() is None


def test_messages_are_made_by_declarations():
    message = RENAME("x", when="today")
    assert message.name == "rename"
    assert bytes(message.input.data) == b'{"args":["x"],"kwargs":{"when":"today"}}'
    assert updates.as_message(message) is message
    assert updates.as_message("rename", ("x",), {"when": "today"}) == message
    assert updates.as_message(RENAME, ("x",), {"when": "today"}) == message
    with pytest.raises(TypeError, match="carries its arguments already"):
        updates.as_message(message, ("y",))
    with pytest.raises(TypeError, match="An update is a name"):
        updates.as_message(5)  # type: ignore[arg-type]
    with pytest.raises(PayloadError, match="The arguments of update 'rename'"):
        RENAME(float("nan"))
    assert repr(RENAME) == "<update rename>"


def test_the_events_of_an_update_are_its_acceptance_and_its_reply():
    run = Run(basket)
    run.update("add", {"sku": "lamp"}, id="u")
    kinds = [item.event for item in run.history[-2:]]
    assert isinstance(kinds[0], events.UpdateAccepted)
    assert isinstance(kinds[1], events.UpdateCompleted)
    run.evict()
