"""Histories that were cut and go on as another run's."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from django_durable.engine import cuts
from django_durable.engine.context import Context
from django_durable.engine.instance import Instance
from django_durable.exceptions import ActivityError, DurableError
from django_durable.history import events, failures, messages
from django_durable.history.events import Recorded
from tests.unit.engine_harness import INFO, STEP, Run, payload, recorded_commands, workflow

NEW = UUID("018f0000-0000-7000-8000-00000000000a")
NEWER = UUID("018f0000-0000-7000-8000-00000000000b")


async def order(ctx: Context) -> list[str]:
    seen = [await ctx.activity(STEP, "a")]
    seen += await asyncio.gather(ctx.activity(STEP, "b"), ctx.activity(STEP, "c"))
    seen.append(await ctx.wait_signal("word"))
    seen.append(str(ctx.info.run_id))
    await ctx.activity(STEP, "d")
    return seen


@pytest.fixture
def run():
    """1 start, 2 a asked; 3 a done, 4 b and 5 c asked; 6 c done; 7 b done; 8 signal, 9 d asked; 10 d done, 11 end."""
    one = Run(workflow(order))
    one.complete("a")
    one.complete("c")
    one.complete("b")
    one.signal("word", "hello")
    one.complete("d")
    assert one.kinds[-1] == "RunCompleted"
    yield one
    one.evict()


@pytest.mark.parametrize(("to_event", "place"), [(1, 1), (2, 1), (3, 3), (5, 3), (6, 6), (7, 7), (9, 8), (11, 10)])
def test_a_cut_is_made_just_before_the_input_whose_drain_holds_the_event(run, to_event, place):
    assert cuts.place_of(run.history, to_event) == place


@pytest.mark.parametrize("to_event", [0, -1, 12])
def test_there_must_be_such_an_event(run, to_event):
    with pytest.raises(DurableError, match="from 1 to 11"):
        cuts.place_of(run.history, to_event)


@pytest.mark.parametrize("to_event", ["3", True, None])
def test_an_event_is_named_by_its_number(run, to_event):
    with pytest.raises(TypeError, match="to_event"):
        cuts.place_of(run.history, to_event)


def test_an_end_from_outside_is_a_step_of_its_own(run):
    history = [*run.history[:7], Recorded(8, run.time, events.RunTerminated())]
    assert cuts.place_of(history, 8) == 8


def carried(run: Run, before: int, *, again: bool = False, reapply_signals: bool = True) -> cuts.Cut:
    return cuts.cut(run.history, before, again=again, reapply_signals=reapply_signals)


def labels(run: Run, sequences: tuple[int, ...]) -> list[str]:
    return [STEP.decode_input(event_of(run.history[one - 1]).input)[0][0] for one in sequences]


def test_signals_and_results_behind_a_cut_go_along(run):
    cut = carried(run, 6)
    assert [type(one).__name__ for one in cut.carried] == ["ActivityResult", "ActivityResult", "Signal"]
    assert (cut.again, cut.interrupted) == ((), ())


def test_what_the_cut_is_made_at_is_executed_again_if_that_is_wanted(run):
    cut = carried(run, 6, again=True, reapply_signals=False)
    assert [type(one).__name__ for one in cut.carried] == ["ActivityResult"]
    assert labels(run, cut.again) == ["c"]


def test_what_belongs_behind_the_cut_only_is_gone(run):
    cut = carried(run, 8, reapply_signals=False)
    assert cut.carried == ()
    assert cut.open == ()


def test_a_cut_before_the_second_event_begins_anew(run):
    assert (carried(run, 1).before, [type(one) for one in carried(run, 1).carried]) == (1, [messages.Signal])
    assert carried(run, 2).before == 1


# Replaying


def event_of(item: Recorded) -> Any:
    return item.event


def result_of(run: Run, drain: Any) -> Any:
    """What the workflow returned in this drain."""
    return run.definition.decode_result(drain.closing.event().result)


def after_reset(run: Run, before: int, new: UUID = NEW, **options: Any) -> tuple[Instance, list[Recorded]]:
    """A fresh instance of the new run, and its history."""
    cut = carried(run, before, **options)
    event = events.RunReset(from_run=run.instance.info.run_id, run_id=new, again=cut.again, interrupted=cut.interrupted)
    history = [*run.history[: before - 1], Recorded(before, run.time, event)]
    instance = Instance(run.definition, replace(INFO, run_id=new))
    assert instance.replay(history) is None
    return instance, history


def test_a_reset_run_goes_on_with_what_was_open_and_makes_keys_of_its_own(run):
    instance, history = after_reset(run, 6, again=True)
    kept = {sequence: one.command.key for sequence, one in instance.activities.items()}
    assert kept == {sequence: f"{INFO.run_id.hex}-{sequence}" for sequence in (4, 5)}
    assert [one.again for one in instance.activities.values()].count("again") == 1
    for sequence in kept:
        drain = instance.apply(events.ActivityCompleted(activity=sequence, result=payload("again")), run.time)
    drain = instance.apply(events.SignalReceived(name="word", payload=payload("hello")), run.time)
    (scheduled,) = map(event_of, recorded_commands(drain))
    assert scheduled.key == f"{NEW.hex}-{instance.sequence}"
    drain = instance.apply(events.ActivityCompleted(activity=instance.sequence, result=payload("d")), run.time)
    assert result_of(run, drain) == ["a", "again", "again", "hello", str(NEW)]
    assert len(history) == 6
    instance.evict()


async def tells_its_id(ctx: Context) -> list[str]:
    first = str(ctx.info.run_id)
    await ctx.activity(STEP, first)
    second = str(ctx.info.run_id)
    await ctx.wait_signal("word")
    return [first, second, str(ctx.info.run_id)]


def test_code_before_the_cut_sees_the_id_that_it_saw_however_often_a_run_is_reset():
    run = Run(workflow(tells_its_id))
    run.complete(str(INFO.run_id))
    run.signal("word")
    instance, history = after_reset(run, 4)
    drain = instance.apply(events.SignalReceived(name="word", payload=payload(None)), run.time)
    history += [Recorded(drain.input_sequence, drain.time, drain.input), *recorded_commands(drain)]
    assert result_of(run, drain) == [str(INFO.run_id), str(INFO.run_id), str(NEW)]
    instance.evict()
    again = Instance(run.definition, replace(INFO, run_id=NEW))
    again.replay(history)
    assert again.closed
    again.evict()

    event = events.RunReset(from_run=NEW, run_id=NEWER)
    third = Instance(run.definition, replace(INFO, run_id=NEWER))
    third.replay([*history[:4], Recorded(5, run.time, event)])
    drain = third.apply(events.SignalReceived(name="word", payload=payload(None)), run.time)
    assert result_of(run, drain) == [
        str(INFO.run_id),
        str(INFO.run_id),
        str(NEWER),
    ]
    third.evict()
    run.evict()


async def naps(ctx: Context) -> str:
    await ctx.sleep(timedelta(hours=1))
    await ctx.wait_signal("word")
    return "rested"


def test_a_timer_that_fired_behind_the_cut_fires_once_more():
    run = Run(workflow(naps))
    run.signal("early", 1)
    run.fire()
    instance, _ = after_reset(run, 4)
    due, sequence = instance.next_timer() or (None, 0)
    assert due is not None
    assert due <= run.time
    instance.apply(events.TimerFired(timer=sequence), run.time)
    instance.evict()
    run.evict()


# Where a failed run is tried again


async def pays(ctx: Context) -> str:
    await ctx.activity(STEP, "reserve")
    try:
        await ctx.activity(STEP, "pay")
    except ActivityError as error:
        await ctx.activity(STEP, "release")
        raise RuntimeError("no order") from error
    return "paid"


def test_a_run_is_retried_at_the_activity_whose_failure_ended_it_whatever_came_between():
    run = Run(workflow(pays))
    run.complete("reserve")
    run.fail("pay", "no money", type="CardDeclined")
    run.complete("release")
    assert run.kinds[-1] == "RunFailed"
    failed = run.kinds.index("ActivityFailed") + 1
    assert cuts.retry_place(run.history) == (failed, True)
    cut = cuts.cut(run.history, failed, again=True, reapply_signals=True)
    assert labels(run, cut.again) == ["pay"]
    assert cut.decided == (event_of(run.history[cut.again[0] - 1]).key,)
    run.evict()


async def breaks(ctx: Context) -> str:
    word = await ctx.activity(STEP, "read")
    await ctx.wait_signal("word")
    raise ValueError(word)


def test_a_run_whose_code_has_failed_is_retried_at_its_last_step():
    run = Run(workflow(breaks))
    run.complete("read")
    run.signal("word", "go")
    place, again = cuts.retry_place(run.history)
    assert (place, again) == (len(run.history) - 1, False)
    cut = cuts.cut(run.history, place, again=again, reapply_signals=True)
    assert [type(one) for one in cut.carried] == [messages.Signal]
    run.evict()


async def breaks_after_a_step(ctx: Context) -> str:
    word = await ctx.activity(STEP, "read")
    raise ValueError(word)


def test_the_result_that_the_code_failed_with_goes_along():
    run = Run(workflow(breaks_after_a_step))
    run.complete("read")
    place, again = cuts.retry_place(run.history)
    cut = cuts.cut(run.history, place, again=again, reapply_signals=True)
    assert [type(one) for one in cut.carried] == [messages.ActivityResult]
    assert cut.again == ()
    run.evict()


def test_a_run_that_timed_out_goes_on_where_it_was(run):
    history = [*run.history[:9], Recorded(10, run.time, events.RunTimedOut())]
    assert cuts.retry_place(history) == (10, False)
    cut = cuts.cut(history, 10, again=False, reapply_signals=True)
    assert labels(run, cut.again) == ["d"]


def test_other_ends_are_not_retried(run):
    with pytest.raises(DurableError, match="failed or timed out"):
        cuts.retry_place(run.history)


def test_what_its_owner_was_executing_counts_as_interrupted(run):
    history = list(run.history)
    scheduled = history[8]
    event = msgspec.structs.replace(event_of(scheduled), worker=3, epoch=1)
    history[8] = Recorded(9, scheduled.time, event)
    cut = cuts.cut([*history[:9], Recorded(10, run.time, events.RunTimedOut())], 10, again=False, reapply_signals=True)
    assert (cut.again, labels(run, cut.interrupted)) == ((), ["d"])


def test_a_failure_that_is_no_activitys_is_not_taken_for_one():
    failed = events.ActivityFailed(activity=2, failure=failures.Failure(type="ValueError", message="same words"))
    ended = events.RunFailed(failure=failures.Failure(type="ValueError", message="same words"))
    run = Run(workflow(order))
    history = [*run.history[:2], Recorded(3, run.time, failed), Recorded(4, run.time, ended)]
    assert cuts.retry_place(history) == (3, True), "it is the last step anyway"
    later = [
        *history[:3],
        Recorded(4, run.time, events.SignalReceived(name="x", payload=payload(1))),
        Recorded(5, run.time, ended),
    ]
    assert cuts.retry_place(later) == (4, False)
    run.evict()
