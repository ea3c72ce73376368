"""Continuing as new: how the code ends, and what it leaves to the next run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from django_durable.engine import continuing
from django_durable.engine.commands import CompleteRun, ContinueAsNew
from django_durable.engine.context import Context
from django_durable.engine.instance import Instance
from django_durable.exceptions import NonDeterminismError
from django_durable.history import codec, events
from tests.unit.engine_harness import INFO, STEP, Run, payload, workflow


def continued(run: Run) -> Any:
    """The arguments of the next run, after every prefix of this one's history was replayed."""
    run.check_replay()
    assert isinstance(run.closing, events.RunContinuedAsNew), run.closing
    return run.definition.decode_input(run.closing.input)[0]


def left(run: Run) -> list[Any]:
    command = run.drain.closing
    assert isinstance(command, ContinueAsNew)
    return [(one.name, codec_value(one.payload)) for one in command.signals]


def codec_value(stored: Any) -> Any:
    return int(bytes(stored.data))


async def counts(ctx: Context, number: int) -> int:
    await ctx.activity(STEP, "work")
    if number < 3:
        ctx.continue_as_new(number + 1)
    return number


async def counts_and_catches_exceptions(ctx: Context, number: int) -> str:
    try:
        ctx.continue_as_new(number + 1)
    except Exception:
        return "swallowed"


async def swallows_everything(ctx: Context, number: int) -> str:
    try:
        ctx.continue_as_new(number + 1)
    except BaseException:
        return "swallowed"


async def in_a_group(ctx: Context, number: int) -> None:
    async def ends() -> None:
        await ctx.activity(STEP, "work")
        ctx.continue_as_new(number + 1)

    async with asyncio.TaskGroup() as group:
        group.create_task(ends())
        group.create_task(ctx.wait_signal("never"))


async def in_a_gather(ctx: Context, number: int) -> None:
    async def ends() -> None:
        ctx.continue_as_new(number + 1)

    await asyncio.gather(ends(), ctx.wait_signal("never"))


def test_a_run_that_continues_as_new_ends_with_the_new_arguments():
    run = Run(workflow(counts), 1)
    run.complete("work")
    assert run.commands == ["ContinueAsNew"]
    assert continued(run) == (2,)


@pytest.mark.parametrize("body", [counts_and_catches_exceptions, swallows_everything])
def test_code_cannot_swallow_it(body):
    assert continued(Run(workflow(body), 1)) == (2,)


def test_a_task_of_the_body_may_do_it_for_the_body():
    run = Run(workflow(in_a_group), 1)
    run.complete("work")
    assert continued(run) == (2,)
    assert continued(Run(workflow(in_a_gather), 1)) == (2,)


async def awaits_on_the_way_out(ctx: Context, number: int) -> None:
    try:
        ctx.continue_as_new(number + 1)
    finally:
        await ctx.activity(STEP, "clean up")


async def tidies_on_the_way_out(ctx: Context, number: int) -> None:
    seen = []
    try:
        ctx.continue_as_new(number + 1)
    finally:
        seen.append(number)


async def fails_on_the_way_out(ctx: Context, number: int) -> None:
    try:
        ctx.continue_as_new(number + 1)
    finally:
        raise ValueError("on the way out")


def test_to_await_something_on_the_way_out_fails_the_run_and_names_the_line():
    run = Run(workflow(awaits_on_the_way_out), 1)
    assert run.failure.type == "UnsupportedInWorkflow"
    assert "test_engine_continuing.py:" in run.failure.message
    assert "continue_as_new" in run.failure.message
    run.check_replay()


def test_what_does_not_wait_may_be_done_on_the_way_out():
    assert continued(Run(workflow(tidies_on_the_way_out), 1)) == (2,)


def test_an_error_on_the_way_out_fails_the_run():
    run = Run(workflow(fails_on_the_way_out), 1)
    assert (run.failure.type, run.failure.message) == ("ValueError", "on the way out")
    run.check_replay()


async def wrong_arguments(ctx: Context, number: int) -> str:
    try:
        ctx.continue_as_new(number, "too many")
    except TypeError as error:
        return str(error)


def test_arguments_that_do_not_fit_are_an_error_where_they_are_given():
    assert "too many" in Run(workflow(wrong_arguments), 1).result()


async def ends_at_the_signal(ctx: Context, taken: int) -> None:
    for _ in range(taken):
        await ctx.wait_signal("word")
    await ctx.wait_signal("end")
    ctx.continue_as_new(taken)


def test_signals_that_nobody_took_are_left_in_the_order_of_their_arrival():
    run = Run(workflow(ends_at_the_signal), 1)
    for number, name in enumerate(["word", "other", "word", "other", "word"], 1):
        run.signal(name, number)
    run.signal("end")
    assert left(run) == [("other", 2), ("word", 3), ("other", 4), ("word", 5)]
    run.check_replay()


async def takes_one(ctx: Context) -> list[int]:
    return [await ctx.wait_signal("word"), await ctx.wait_signal("word"), await ctx.wait_signal("word")]


def test_a_run_begins_with_the_signals_that_were_left_to_it():
    definition = workflow(takes_one)
    run = Run(definition, signals=tuple(events.CarriedSignal(name="word", payload=payload(n)) for n in (1, 2)))
    run.signal("word", 3)
    assert run.result() == [1, 2, 3]


async def waits_for_handlers(ctx: Context, number: int) -> None:
    @ctx.on_signal("job")
    async def job(label: str) -> None:
        await ctx.activity(STEP, label)

    await ctx.wait_signal("end")
    ctx.continue_as_new(number + 1)


def test_a_body_that_continues_as_new_waits_for_open_handlers():
    run = Run(workflow(waits_for_handlers), 1)
    run.signal("job", "a")
    run.signal("end")
    assert not run.instance.closed
    run.signal("job", "b")
    run.complete("a")
    assert not run.instance.closed
    run.complete("b")
    assert continued(run) == (2,)


async def handler_ends_it(ctx: Context, number: int) -> None:
    @ctx.on_signal("end")
    def end(label: str) -> None:
        ctx.continue_as_new(number + 1)

    await ctx.wait_signal("never")


def test_the_handler_of_a_signal_may_do_it_for_the_body():
    run = Run(workflow(handler_ends_it), 1)
    run.signal("end", "now")
    assert continued(run) == (2,)


async def counts_by_two(ctx: Context, number: int) -> int:
    await ctx.activity(STEP, "work")
    ctx.continue_as_new(number + 2)


def test_other_arguments_than_the_recorded_ones_are_nondeterminism():
    run = Run(workflow(counts), 1)
    run.complete("work")
    with pytest.raises(NonDeterminismError, match="to continue as new with"):
        run.replay(workflow(counts_by_two))


# What a run knows of itself


async def tells(ctx: Context) -> list[Any]:
    told: list[Any] = []
    for _ in range(3):
        await ctx.activity(STEP, "ä" * len(told))
        told.append([ctx.info.events, ctx.info.bytes, ctx.info.should_continue_as_new])
    return told


def stored(run: Run) -> list[events.Recorded]:
    return [
        events.Recorded(one.sequence, one.time, one.event, len(codec.encode(one.event).decode())) for one in run.history
    ]


def test_the_length_of_the_history_is_the_same_in_a_replay():
    """As a worker does it: what is written adds to the size, what is read has its size."""
    run = Run(workflow(tells))
    for label in ("", "ä", "ää"):
        run.complete(label)
    history = stored(run)
    told = run.result()
    ends = [3, 5, 7]
    assert [events_ for events_, _, _ in told] == ends
    for end in (1, 2, 4, 6):
        instance = Instance(run.definition, INFO)
        instance.replay(history[:end] if end > 1 else [*history[:2]])
        for one in history[max(end, 2) :]:
            if one.event.is_input:
                drain = instance.apply(one.event, one.time)
                instance.size += one.size + sum(len(codec.encode(c.event()).decode()) for c in drain.commands)
        assert isinstance(drain.closing, CompleteRun)
        sizes = [size for _, size, _ in run.definition.decode_result(drain.closing.result)]
        assert sizes == [sum(one.size for one in history[:end]) for end in ends]
        instance.evict()


def test_a_run_should_continue_as_new_when_its_history_is_long(monkeypatch):
    monkeypatch.setattr("django_durable.engine.info.EVENTS_HINT", 5)
    run = Run(workflow(tells))
    for label in ("", "ä", "ää"):
        run.complete(label)
    assert [should for _, _, should in run.result()] == [False, True, True]


async def knows_where_it_comes_from(ctx: Context) -> list[Any]:
    return [ctx.info.attempt, str(ctx.info.continued_from)]


def test_a_run_knows_which_try_it_is_and_what_was_before_it():
    assert Run(workflow(knows_where_it_comes_from)).result() == [1, "None"]
    assert Run(workflow(knows_where_it_comes_from), attempt=3, continued_from=INFO.run_id).result() == [
        3,
        str(INFO.run_id),
    ]


# Limits


async def goes_on(ctx: Context) -> None:
    while True:
        await ctx.wait_signal("more")


def test_a_history_that_is_too_long_fails_the_run_with_the_way_out(monkeypatch):
    monkeypatch.setattr(continuing, "EVENTS_LIMIT", 5)
    run = Run(workflow(goes_on))
    for _ in range(3):
        run.signal("more")
        assert not run.instance.closed
    run.signal("more")
    assert run.failure.type == "HistoryTooLong"
    assert "ctx.continue_as_new(" in run.failure.message
    assert len(run.history) == 6
    run.check_replay()


ran: list[str] = []


async def notes_its_end(ctx: Context) -> None:
    try:
        await ctx.wait_signal("more")
    except asyncio.CancelledError:
        ran.append("cancelled")
        raise


def test_code_does_not_run_any_more_once_its_history_is_too_long(monkeypatch):
    monkeypatch.setattr(continuing, "EVENTS_LIMIT", 2)
    ran.clear()
    run = Run(workflow(notes_its_end))
    run.cancel()
    assert run.failure.type == "HistoryTooLong"
    run.evict()
    assert ran == []
