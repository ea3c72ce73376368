"""Code that does not repeat its history is told apart from code that does, with event number and line."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from django_durable.definitions.activity import ActivityDefinition
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine import cuts
from django_durable.engine.context import Context
from django_durable.engine.instance import Instance
from django_durable.exceptions import DurableError, NonDeterminismError
from django_durable.history import events
from django_durable.history.events import Recorded
from tests.unit.engine_harness import INFO, START, STEP, Run, payload, step, workflow

OTHER: ActivityDefinition[[str], str] = ActivityDefinition(step, name="tests.other")


@workflow
async def original(ctx: Context) -> str:
    first = await ctx.activity(STEP, "a")
    await ctx.sleep(60)
    second = await ctx.activity(STEP, "b")
    return first + second


def _recorded(*, open: bool = False) -> Run:
    """1 RunStarted 2 ActivityScheduled(a) 3 ActivityCompleted 4 TimerStarted 5 TimerFired 6 ActivityScheduled(b)
    7 ActivityCompleted 8 RunCompleted
    """
    run = Run(original)
    run.complete("a")
    run.fire()
    if not open:
        run.complete("b")
    return run


def _difference(function: Any, run: Run) -> NonDeterminismError:
    with pytest.raises(NonDeterminismError) as caught:
        run.replay(workflow(function))
    run.evict()
    return caught.value


def _line(function: Any, offset: int) -> str:
    return f"{__file__}:{function.__code__.co_firstlineno + offset}"


def test_the_same_code_replays_to_the_end():
    run = _recorded()
    replayed = run.replay()
    assert replayed.closed
    assert replayed.sequence == 8
    assert run.result() == "ab"


async def another_name(ctx: Context) -> str:
    first = await ctx.activity(OTHER, "a")
    await ctx.sleep(60)
    return first + await ctx.activity(STEP, "b")


def test_another_activity_is_a_difference():
    error = _difference(another_name, _recorded())
    assert error.event == 2
    assert error.recorded == 'activity tests.step with {"label":"a"}'
    assert error.requested == 'activity tests.other with {"label":"a"}'
    assert error.where == _line(another_name, 1)
    for part in ("tests.flow", "Event 2", error.recorded, error.requested, error.where):
        assert part in str(error)


async def other_arguments(ctx: Context) -> str:
    first = await ctx.activity(STEP, "a")
    await ctx.sleep(60)
    return first + await ctx.activity(STEP, "c")


def test_other_arguments_are_a_difference():
    error = _difference(other_arguments, _recorded())
    assert (error.event, error.where) == (6, _line(other_arguments, 3))
    assert error.requested == 'activity tests.step with {"label":"c"}'


async def another_duration(ctx: Context) -> str:
    first = await ctx.activity(STEP, "a")
    await ctx.sleep(timedelta(seconds=61))
    return first + await ctx.activity(STEP, "b")


def test_another_duration_is_a_difference():
    error = _difference(another_duration, _recorded())
    assert (error.event, error.where) == (4, _line(another_duration, 2))
    assert (error.recorded, error.requested) == ("a timer of 60 s", "a timer of 61 s")


async def one_more_beside(ctx: Context) -> str:
    await asyncio.gather(ctx.activity(STEP, "a"), ctx.activity(STEP, "z"))
    return ""


def test_a_command_that_history_does_not_hold_is_a_difference():
    error = _difference(one_more_beside, _recorded())
    assert error.event == 3
    assert error.recorded == "nothing more after event 2"
    assert error.requested == 'activity tests.step with {"label":"z"}'
    assert error.where == _line(one_more_beside, 1)


async def one_less(ctx: Context) -> str:
    first = await ctx.activity(STEP, "a")
    await ctx.wait_signal("go")
    return first


def test_a_command_that_the_code_no_longer_makes_is_a_difference():
    error = _difference(one_less, _recorded())
    assert error.event == 4
    assert (error.recorded, error.requested) == ("a timer of 60 s", "nothing like it")
    assert error.where == _line(one_less, 2)


async def inserted(ctx: Context) -> str:
    first = await ctx.activity(STEP, "a")
    await ctx.activity(STEP, "new")
    await ctx.sleep(60)
    return first + await ctx.activity(STEP, "b")


def test_an_inserted_step_is_a_difference():
    error = _difference(inserted, _recorded())
    assert (error.event, error.where) == (4, _line(inserted, 2))
    assert error.requested == 'activity tests.step with {"label":"new"}'


async def returns_early(ctx: Context) -> str:
    return await ctx.activity(STEP, "a")


def test_returning_while_history_goes_on_is_a_difference():
    error = _difference(returns_early, _recorded())
    assert error.event == 4
    assert error.requested == 'the run to complete with "a"'
    assert error.where == _line(returns_early, 0)


async def raises_early(ctx: Context) -> str:
    await ctx.activity(STEP, "a")
    raise ValueError("new check")


def test_raising_while_history_goes_on_is_a_difference_at_the_line_that_raised():
    error = _difference(raises_early, _recorded())
    assert error.event == 4
    assert error.requested == "the run to fail with ValueError: new check"
    assert error.where == _line(raises_early, 2)


async def goes_on(ctx: Context) -> str:
    first = await ctx.activity(STEP, "a")
    await ctx.sleep(60)
    await ctx.activity(STEP, "b")
    await ctx.activity(STEP, "more")
    return first


def test_going_on_where_history_ended_the_run_is_a_difference():
    error = _difference(goes_on, _recorded())
    assert error.event == 8
    assert error.recorded == 'the run to complete with "ab"'
    assert error.requested == 'activity tests.step with {"label":"more"}'


async def more_at_the_end(ctx: Context) -> str:
    first = await ctx.activity(STEP, "a")
    await ctx.sleep(60)
    return first + "".join(await asyncio.gather(ctx.activity(STEP, "b"), ctx.activity(STEP, "extra")))


def test_commands_beyond_the_last_recorded_drain_are_a_difference():
    error = _difference(more_at_the_end, _recorded(open=True))
    assert error.event == 7
    assert error.recorded == "nothing more after event 6"
    assert error.requested == 'activity tests.step with {"label":"extra"}'


@workflow
async def never_waits(ctx: Context) -> None:
    return None


def test_a_run_that_ended_in_its_first_drain_replays():
    run = Run(never_waits)
    assert run.kinds == ["RunStarted", "RunCompleted"]
    assert run.result() is None


async def takes_an_argument(ctx: Context, number: int) -> str:
    return await ctx.activity(STEP, "a")


def test_an_input_that_no_longer_fits_the_signature_is_a_difference():
    error = _difference(takes_an_argument, _recorded())
    assert error.event == 2
    assert "PayloadError" in error.requested
    assert error.where == _line(takes_an_argument, 0)


def test_an_input_that_does_not_fit_fails_a_new_run():
    definition = workflow(takes_an_argument)
    instance = Instance(definition, INFO)
    started = events.RunStarted(input=payload(["no number"]), seed=1, python="3.11")
    drain = instance.replay([Recorded(1, START, started)])
    assert drain is not None
    assert drain.closing is not None
    failed = drain.closing.event()
    assert isinstance(failed, events.RunFailed)
    assert failed.failure.type == "PayloadError"


def test_an_input_event_that_nothing_waits_for_is_a_difference():
    run = _recorded(open=True)
    unknown = events.ActivityCompleted(activity=4, result=payload("x"))
    run.history.append(Recorded(7, START + timedelta(hours=1), unknown))
    error = _difference(original.function, run)
    assert error.event == 7
    assert error.recorded == "the result of activity 4"
    assert error.where == _line(original.function, 4)


@workflow
async def equal_calls(ctx: Context) -> list[str]:
    async def one(label: str) -> str:
        first = await ctx.activity(STEP, "same")
        return await ctx.activity(STEP, first + label)

    return await asyncio.gather(*(one(label) for label in "xyz"))


def test_equal_commands_of_one_drain_keep_their_order():
    run = Run(equal_calls)
    first, second, third = (command.sequence for command in run.drain.commands)
    for sequence, label in ((third, "3"), (first, "1"), (second, "2")):
        run.apply(events.ActivityCompleted(activity=sequence, result=payload(label)))
    assert list(run.pending) == ["3z", "1x", "2y"]
    for label in ("2y", "1x", "3z"):
        run.complete(label)
    assert run.result() == ["1x", "2y", "3z"]


@workflow
async def ordered(ctx: Context) -> Any:
    return await asyncio.gather(ctx.activity(STEP, "a"), asyncio.sleep(5, "slept"), ctx.activity(STEP, "b"))


async def reordered(ctx: Context) -> list[Any]:
    b, slept, a = await asyncio.gather(ctx.activity(STEP, "b"), asyncio.sleep(5, "slept"), ctx.activity(STEP, "a"))
    return [a, slept, b]


def test_the_order_inside_a_drain_does_not_matter():
    run = Run(ordered)
    run.complete("b")
    run.fire()
    replayed = run.replay(workflow(reordered))
    assert list(replayed.activities) == [run.pending["a"]]
    drain = replayed.apply(events.ActivityCompleted(activity=run.pending["a"], result=payload("a")), run.time)
    assert drain.closing is not None
    assert drain.closing.event() == events.RunCompleted(result=payload(["a", "slept", "b"]))
    replayed.evict()
    run.complete("a")
    assert run.result() == ["a", "slept", "b"]


def test_idempotency_keys_are_made_once_and_read_from_history_afterwards():
    run = _recorded(open=True)
    (pending,) = run.instance.activities.values()
    assert pending.command.key == f"{INFO.run_id.hex}-6"
    assert (pending.worker, pending.epoch) == (None, None)

    scheduled = run.history[5].event
    assert isinstance(scheduled, events.ActivityScheduled)
    run.history[5] = Recorded(
        6,
        run.history[5].time,
        events.ActivityScheduled(name=scheduled.name, input=scheduled.input, key="old", worker=3, epoch=9),
    )
    replayed = run.replay()
    (pending,) = replayed.activities.values()
    assert (pending.command.key, pending.worker, pending.epoch) == ("old", 3, 9)
    assert pending.scheduled_at == run.history[4].time
    replayed.evict()
    run.evict()


async def same_elsewhere(ctx: Context) -> str:
    first = await ctx.activity(STEP.using(queue="slow"), "a")
    await ctx.sleep(60)
    return first + await ctx.activity(STEP.using(queue="slow"), "b")


def test_options_are_not_compared():
    run = _recorded()
    assert run.replay(workflow(same_elsewhere)).closed
    run.evict()


def _history(*items: events.Event) -> list[Recorded]:
    return [Recorded(number, START, item) for number, item in enumerate(items, 1)]


def _started(definition: WorkflowDefinition[..., Any] = original) -> events.RunStarted:
    return events.RunStarted(input=definition.encode_input((), {}), seed=1, python="3.11")


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([], "empty history"),
        (_history(events.CancelRequested()), "begins with RunStarted"),
        (_history(_started(), events.RunTerminated()), "terminated from outside"),
        ([Recorded(1, START, _started()), Recorded(3, START, events.CancelRequested())], "event 3 follows event 1"),
        (_history(_started(), events.RunCancelled(), events.CancelRequested()), "after event 2, which ended the run"),
    ],
)
def test_what_cannot_be_a_history_is_refused(history, message):
    instance = Instance(original, INFO)
    with pytest.raises(DurableError, match=message):
        instance.replay(history)
    instance.evict()


def test_a_history_of_nothing_but_its_start_is_applied_live():
    instance = Instance(original, INFO)
    drain = instance.replay(_history(_started()))
    assert drain is not None
    assert (drain.input_sequence, [command.sequence for command in drain.commands]) == (1, [2])
    assert drain.time == START
    instance.evict()


def test_what_the_run_does_not_take_is_refused_by_apply():
    run = _recorded(open=True)
    for event in (events.TimerFired(timer=4), events.ActivityCompleted(activity=2, result=payload("a")), _started()):
        assert not run.instance.accepts(event)
        with pytest.raises(DurableError, match="does not take"):
            run.instance.apply(event, run.time)
    run.complete("b")
    assert not run.instance.accepts(events.CancelRequested())
    assert not run.instance.accepts(events.SignalReceived(name="x", payload=payload(1)))
    run.evict()


def test_event_time_never_goes_backwards():
    run = Run(original)
    drain = run.instance.apply(events.ActivityCompleted(activity=2, result=payload("a")), START - timedelta(minutes=5))
    assert drain.time == START
    drain = run.instance.apply(events.TimerFired(timer=4), START)
    assert drain.time == START + timedelta(seconds=60)
    assert run.instance.last_time == drain.time
    run.evict()


# Notes behind the start


PAUSE = (
    Recorded(2, START + timedelta(seconds=5), events.RunPaused(reason="lunch")),
    Recorded(3, START + timedelta(seconds=9), events.RunResumed()),
)


@workflow
async def waits_first(ctx: Context) -> str:
    return str(await ctx.wait_signal("word"))


def _start_of(definition: WorkflowDefinition[..., Any]) -> Recorded:
    run = Run(definition)
    run.evict()
    return run.history[0]


def _begun_late(definition: WorkflowDefinition[..., Any]) -> tuple[Instance, list[Recorded]]:
    """A run that was paused before its first step; what a worker would have written of that step."""
    history = [_start_of(definition), *PAUSE]
    instance = Instance(definition, INFO)
    drain = instance.replay(history)
    assert drain is not None
    return instance, history + [Recorded(one.sequence, drain.time, one.event()) for one in drain.commands]


def test_the_first_step_follows_on_a_pause_that_came_before_it():
    instance, history = _begun_late(original)
    assert [type(one.event).__name__ for one in history[3:]] == ["ActivityScheduled"]
    assert (history[3].sequence, history[3].time) == (4, PAUSE[1].time), "times never go backwards"
    assert instance.info.run_id.hex in next(iter(instance.activities.values())).command.key
    instance.evict()
    again = Instance(original, INFO)
    assert again.replay(history) is None
    assert (again.sequence, again.last_time, list(again.activities)) == (4, PAUSE[1].time, [4])
    completed = again.apply(events.ActivityCompleted(activity=4, result=payload("a")), START)
    assert (completed.input_sequence, completed.time) == (5, PAUSE[1].time)
    again.evict()


def test_a_run_that_waits_from_its_start_on_can_be_paused_as_often_as_one_likes():
    instance, history = _begun_late(waits_first)
    assert len(history) == 3
    history += [
        Recorded(4, START + timedelta(seconds=20), events.RunPaused()),
        Recorded(5, START + timedelta(seconds=21), events.RunResumed()),
    ]
    instance.evict()
    again = Instance(waits_first, INFO)
    again.replay(history)
    drain = again.apply(events.SignalReceived(name="word", payload=payload("yes")), START + timedelta(seconds=30))
    assert (drain.input_sequence, drain.closing is not None) == (6, True)
    again.evict()
    history += [
        Recorded(6, drain.time, drain.input),
        *(Recorded(one.sequence, drain.time, one.event()) for one in drain.commands),
    ]
    for look in (Instance(waits_first, INFO), Instance(waits_first, INFO)):
        look.look(history)
        assert look.closed
        look.evict()


def test_code_that_does_not_repeat_the_first_step_behind_a_pause_is_found():
    instance, history = _begun_late(original)
    instance.evict()
    other = Instance(waits_first, INFO)
    with pytest.raises(NonDeterminismError) as caught:
        other.replay(history)
    other.evict()
    assert caught.value.event == 4


def test_a_run_that_was_paused_before_its_first_step_can_be_looked_at():
    history = [_start_of(original), *PAUSE[:1]]
    instance = Instance(original, INFO)
    instance.look(history)
    assert instance.waiting()
    instance.evict()


@pytest.mark.parametrize("to_event", [1, 2, 3, 4])
def test_there_is_nothing_to_go_back_to_before_the_first_step(to_event):
    instance, history = _begun_late(original)
    instance.evict()
    found = cuts.cut(history, cuts.place_of(history, to_event), again=False, reapply_signals=True)
    assert found.before == 1
