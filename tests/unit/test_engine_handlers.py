"""Handlers take signals beside the workflow's body, and the run does not end before they have."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from dataclasses import dataclass
from typing import Any

import pytest

from django_durable.definitions.signal import SignalDefinition
from django_durable.engine.context import Context
from django_durable.exceptions import NonDeterminismError
from django_durable.history import events
from tests.unit.engine_harness import STEP, Run, collect, workflow

RATED: SignalDefinition[int] = SignalDefinition("rated", int)


@dataclass
class Item:
    sku: str
    count: int = 1


@workflow
async def collects(ctx: Context) -> list[Any]:
    seen: list[Any] = []

    @ctx.on_signal("word")
    def word(value: str) -> None:
        seen.append(value)

    @ctx.on_signal(RATED)
    async def rated(value):
        seen.append(await ctx.activity(STEP, f"rated {value}"))

    @ctx.on_signal("bell")
    def bell() -> None:
        seen.append("ring")

    @ctx.on_signal("item")
    def item(value: Item) -> None:
        seen.append(value.sku)

    await ctx.wait_signal("stop")
    return seen


def test_handlers_of_every_kind_are_called_with_the_payload():
    run = Run(collects)
    run.signal("word", "one")
    run.signal("rated", 5)
    run.signal("bell", {"nobody": "reads this"})
    run.signal("item", {"sku": "lamp"})
    run.complete("rated 5", "thanks")
    run.signal("stop")
    assert run.result() == ["one", "ring", "lamp", "thanks"]


def test_a_payload_that_does_not_fit_is_recorded_as_rejected_and_the_run_goes_on():
    run = Run(collects)
    run.signal("word", 5)
    assert run.commands == ["RejectSignal"]
    run.signal("rated", "very good")
    run.signal("item", {"count": 3})
    run.signal("word", "fits")
    run.signal("stop")
    rejected = [item.event for item in run.history if isinstance(item.event, events.SignalRejected)]
    assert [event.name for event in rejected] == ["word", "rated", "item"]
    assert "Expected `str`, got `int`" in rejected[0].message
    assert run.result() == ["fits"]


@workflow
async def registers_late(ctx: Context) -> list[str]:
    seen: list[str] = []
    await ctx.activity(STEP, "a")

    @ctx.on_signal("word")
    def word(value: str) -> None:
        seen.append(value)

    await ctx.activity(STEP, "b")
    return seen


def test_signals_that_came_before_the_handler_are_handed_to_it_in_order():
    run = Run(registers_late)
    run.signal("word", "one")
    run.signal("other")
    run.signal("word", "two")
    run.complete("a")
    run.signal("word", "three")
    run.complete("b")
    assert run.closing.unhandled == ("other",)  # type: ignore[attr-defined]
    assert run.result() == ["one", "two", "three"]


@workflow
async def registers_and_returns(ctx: Context) -> list[str]:
    seen: list[str] = []
    await ctx.activity(STEP, "a")

    @ctx.on_signal("word")
    def word(value: str) -> None:
        seen.append(value)

    return seen


def test_what_waited_for_the_handler_is_handled_even_if_the_body_returns_at_once():
    run = Run(registers_and_returns)
    run.signal("word", "kept")
    run.complete("a")
    assert run.result() == ["kept"]


@workflow
async def waits_and_handles(ctx: Context) -> dict[str, list[str]]:
    seen: dict[str, list[str]] = {"handled": [], "waited": []}

    @ctx.on_signal("word")
    def word(value: str) -> None:
        seen["handled"].append(value)

    async def waiter() -> None:
        seen["waited"].append(await ctx.wait_signal("word"))

    await asyncio.gather(waiter(), waiter(), ctx.wait_signal("stop"))
    return seen


def test_who_waits_is_served_before_the_handler():
    run = Run(waits_and_handles)
    for word in ("one", "two", "three"):
        run.signal("word", word)
    run.signal("stop")
    assert run.result() == {"handled": ["three"], "waited": ["one", "two"]}


@workflow
async def fails_in_handler(ctx: Context) -> None:
    @ctx.on_signal("word")
    async def word(value: str) -> None:
        await ctx.activity(STEP, "handle")
        raise ValueError(f"no {value}")

    try:
        await ctx.wait_signal("never")
    finally:
        await ctx.activity(STEP, "clean up")


def test_an_exception_of_a_handler_fails_the_run_after_the_body_could_clean_up():
    run = Run(fails_in_handler)
    run.signal("word", "go")
    run.complete("handle")
    assert run.commands == ["ScheduleActivity"]
    run.complete("clean up")
    assert (run.failure.type, run.failure.message) == ("ValueError", "no go")
    run.check_replay()


@workflow
async def returns_early(ctx: Context) -> str:
    done: list[str] = []

    @ctx.on_signal("word")
    async def word(value: str) -> None:
        done.append(await ctx.activity(STEP, value))
        if value == "bad":
            raise ValueError("bad")

    await ctx.wait_signal("stop")
    return f"open: {ctx.info.open_handlers}"


def test_a_body_that_returns_waits_for_open_handlers():
    run = Run(returns_early)
    run.signal("word", "a")
    run.signal("word", "b")
    run.signal("stop")
    assert not run.instance.closed
    lingering = run.instance.lingering()
    assert lingering is not None
    assert lingering.handlers == ("signal 'word'", "signal 'word'")
    run.complete("b")
    assert not run.instance.closed
    run.complete("a")
    assert run.result() == "open: 2"


def test_a_handler_that_fails_after_the_body_has_returned_fails_the_run():
    run = Run(returns_early)
    run.signal("word", "a")
    run.signal("word", "bad")
    run.signal("stop")
    run.complete("bad")
    assert run.commands == ["CancelActivity", "FailRun"]
    assert run.failure.type == "ValueError"
    run.check_replay()


def test_a_run_whose_handlers_are_left_can_be_cancelled():
    run = Run(returns_early)
    run.signal("word", "a")
    run.signal("stop")
    run.cancel("enough")
    assert run.commands == ["CancelActivity", "CancelRun"]
    assert run.closing == events.RunCancelled(reason="enough")
    run.check_replay()


@workflow
async def raises(ctx: Context) -> None:
    @ctx.on_signal("word")
    async def word(value: str) -> None:
        try:
            await ctx.activity(STEP, value)
        finally:
            await ctx.activity(STEP, "handler's end")

    await ctx.wait_signal("stop")
    raise RuntimeError("the body's")


def test_a_body_that_raises_cancels_its_handlers_and_waits_for_their_cleanup():
    run = Run(raises)
    run.signal("word", "a")
    run.signal("stop")
    assert run.commands == ["CancelActivity", "ScheduleActivity"]
    run.cancel("too late to change anything")
    run.signal("word", "nobody takes this any more")
    run.complete("handler's end")
    assert run.failure.message == "the body's"
    assert run.closing.unhandled == ("word",)  # type: ignore[attr-defined]
    run.check_replay()


def test_a_cancelled_body_cancels_its_handlers():
    run = Run(raises)
    run.signal("word", "a")
    run.cancel("stop it")
    run.complete("handler's end")
    assert run.closing == events.RunCancelled(reason="stop it")
    run.check_replay()


@workflow
async def finishes(ctx: Context) -> list[Any]:
    seen: list[Any] = []

    @ctx.on_signal("word")
    async def word(value: str) -> None:
        await ctx.activity(STEP, value)
        await ctx.handlers_finished()  # the others only wait for this as well
        seen.append(value)

    await ctx.handlers_finished()
    await ctx.wait_signal("stop")
    before = ctx.info.open_handlers
    await ctx.handlers_finished()
    return [before, *seen, ctx.info.open_handlers]


def test_handlers_can_be_waited_for():
    run = Run(finishes)
    run.signal("word", "a")
    run.signal("word", "b")
    run.signal("stop")
    lingering = run.instance.lingering()
    assert lingering is not None
    assert len(lingering.handlers) == 2
    run.complete("a")
    assert not run.instance.closed
    run.complete("b")
    assert run.result() == [2, "b", "a", 0]


def test_signals_that_nobody_takes_are_listed():
    run = Run(collects)
    assert run.instance.lingering() is None
    run.signal("word", "taken")
    run.signal("wrod", "misspelt")
    run.signal("wrod", "misspelt")
    lingering = run.instance.lingering()
    assert lingering is not None
    assert lingering.signals == ("wrod",)
    run.evict()


WHERE: contextvars.ContextVar[str] = contextvars.ContextVar("WHERE", default="outside")


@workflow
async def has_context(ctx: Context) -> list[str]:
    seen: list[str] = []
    WHERE.set("inside")

    @ctx.on_signal("word")
    def word() -> None:
        seen.append(WHERE.get())
        WHERE.set("handler")

    WHERE.set("later")
    await ctx.wait_signal("stop")
    return [*seen, WHERE.get()]


def test_a_handler_runs_in_the_context_in_which_it_was_registered():
    run = Run(has_context)
    run.signal("word")
    run.signal("word")
    run.signal("stop")
    assert run.result() == ["inside", "inside", "later"]


class Basket:
    def __init__(self) -> None:
        self.items: list[str] = []

    def add(self, sku: str) -> None:
        self.items.append(sku)


@workflow
async def keeps_a_basket(ctx: Context) -> list[str]:
    basket = Basket()
    ctx.on_signal("add")(basket.add)
    await ctx.wait_signal("stop")
    return basket.items


def test_a_method_can_be_a_handler():
    run = Run(keeps_a_basket)
    run.signal("add", "lamp")
    run.signal("stop")
    assert run.result() == ["lamp"]


@workflow
async def has_default(ctx: Context) -> list[Any]:
    seen: list[Any] = []

    @ctx.on_signal("word")
    def word(value: str = "nothing") -> None:
        seen.append(value)

    await ctx.wait_signal("stop")
    return seen


def test_a_signal_without_payload_leaves_the_default():
    run = Run(has_default)
    run.signal("word")
    run.signal("word", "x")
    run.signal("stop")
    assert run.result() == ["nothing", "x"]


async def without_name(ctx: Context) -> None:
    @ctx.on_signal  # type: ignore[arg-type]
    def word() -> None: ...


async def two_parameters(ctx: Context) -> None:
    @ctx.on_signal("word")
    def word(one: str, two: str) -> None: ...


async def unknown_annotation(ctx: Context) -> None:
    @ctx.on_update("word")
    def word(one: Missing) -> None: ...  # type: ignore[name-defined] # noqa: F821


async def no_function(ctx: Context) -> None:
    ctx.on_query("x")(5)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (without_name, "needs the name of what it handles"),
        (two_parameters, "needs one, two. Send several values as one dataclass or dict."),
        (unknown_annotation, "'Missing' is not defined"),
        (no_function, "must be a function"),
    ],
)
def test_a_handler_that_cannot_work_is_refused_where_it_is_registered(function, words):
    run = Run(workflow(function))
    assert run.failure.type == "DefinitionError"
    assert words in run.failure.message
    run.check_replay()


async def handles_otherwise(ctx: Context) -> list[Any]:
    @ctx.on_signal("word")
    async def word(value: str) -> None:
        await ctx.sleep(1)

    await ctx.wait_signal("stop")
    return []


def test_a_handler_that_does_something_else_than_history_holds_is_told():
    run = Run(collects)
    run.signal("word", "x")
    run.signal("stop")
    with pytest.raises(NonDeterminismError) as caught:
        run.replay(workflow(handles_otherwise))
    assert caught.value.requested == "a timer of 1 s"
    run.evict()


class Marker: ...


ALIVE: list[weakref.ref[Marker]] = []


@workflow
async def has_a_marker(ctx: Context) -> None:
    marker = Marker()
    ALIVE.append(weakref.ref(marker))

    @ctx.on_update("x")
    def handler(value: int = 1) -> str:
        return f"{marker} {value}"

    await ctx.wait_signal("stop")


def test_runs_with_handlers_are_not_kept_in_memory():
    ALIVE.clear()
    run = Run(has_a_marker)
    run.update("x")
    run.evict()
    del run
    collect()
    assert [reference() for reference in ALIVE] == [None]
