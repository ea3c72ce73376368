"""What must be true of every run, whatever has happened to it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Any

from django_durable.client import WorkflowHandle
from django_durable.history import events
from django_durable.history.replies import ANSWERED
from django_durable.history.status import CLOSED
from django_durable.models import ActivityOutcome, ActivityTask, Dispatch, InboxMessage, Update, WorkflowRun
from django_durable.store import history

ENDINGS = tuple(kind.__name__ for kind in events.CLOSING)


def assert_invariants(handle: WorkflowHandle[Any]) -> None:
    """A run's history is gapless, consistent in itself, and nothing is left of a run that is closed."""
    recorded = history.read([handle.run_id])[handle.run_id]
    run = WorkflowRun.objects.get(pk=handle.run_id)
    assert [one.sequence for one in recorded] == list(range(1, len(recorded) + 1)), "sequences are not dense"
    assert isinstance(recorded[0].event, events.RunStarted)
    assert all(earlier.time <= later.time for earlier, later in itertools.pairwise(recorded))
    assert_answers_fit(recorded)
    _assert_pauses_fit(recorded)
    endings = [one for one in recorded if type(one.event).__name__ in ENDINGS]
    assert endings == (recorded[-1:] if run.status in CLOSED else []), "an end that is not the end"
    if run.status in CLOSED:
        _assert_nothing_left(run)
        _assert_outcomes_unseen(run, recorded)


def assert_family(handle: WorkflowHandle[Any]) -> None:
    """One child for each request of the run, under the ids that the request names, and one reply at most from each."""
    recorded = history.read([handle.run_id])[handle.run_id]
    asked = {one.event.key: one.event for one in recorded if isinstance(one.event, events.ChildScheduled)}
    refused = {one.event.child for one in recorded if isinstance(one.event, events.ChildStartFailed)}
    keys = {one.sequence: one.event.key for one in recorded if isinstance(one.event, events.ChildScheduled)}
    first = WorkflowRun.objects.filter(parent_run_id=handle.run_id, continued_from=None)
    started = {run.parent_key: run for run in first}
    assert len(started) == first.count(), "a request has started two children"
    assert started.keys() == asked.keys() - {keys[sequence] for sequence in refused}
    for key, run in started.items():
        assert key is not None
        assert (run.pk, run.workflow_id, run.name) == (asked[key].run_id, asked[key].workflow_id, asked[key].name)
        begun = history.read([run.pk])[run.pk][0].event
        assert isinstance(begun, events.RunStarted)
        assert begun.parent is not None
        assert (begun.parent.key, begun.parent.run_id) == (key, handle.run_id)


def assert_all_invariants(handles: Iterable[WorkflowHandle[Any]]) -> None:
    for handle in handles:
        assert_invariants(handle)


def assert_answers_fit(recorded: list[events.Recorded]) -> None:
    """Every completion answers one schedule before it, and none is answered twice."""
    asked: dict[str, set[int]] = {"activity": set(), "timer": set(), "child": set(), "request": set()}
    open_updates: set[str] = set()
    answered: Counter[tuple[str, int]] = Counter()
    for one in recorded:
        match one.event:
            case events.ActivityScheduled() | events.CallbackOpened():
                asked["activity"].add(one.sequence)
            case events.TimerStarted():
                asked["timer"].add(one.sequence)
            case events.ChildScheduled():
                asked["child"].add(one.sequence)
            case events.ExternalSignalRequested() | events.ExternalCancelRequested():
                asked["request"].add(one.sequence)
            case (
                events.ChildCompleted(child=sequence)
                | events.ChildFailed(child=sequence)
                | events.ChildStartFailed(child=sequence)
            ):
                assert sequence in asked["child"], f"{one} answers nothing"
                answered["child", sequence] += 1
            case events.ExternalDelivered(request=sequence) | events.ExternalFailed(request=sequence):
                assert sequence in asked["request"], f"{one} answers nothing"
                answered["request", sequence] += 1
            case events.ActivityCompleted(activity=sequence) | events.ActivityFailed(activity=sequence):
                assert sequence in asked["activity"], f"{one} answers nothing"
                answered["activity", sequence] += 1
            case events.TimerFired(timer=sequence):
                assert sequence in asked["timer"], f"{one} answers nothing"
                answered["timer", sequence] += 1
            case events.UpdateAccepted(id=update):
                assert update not in open_updates, f"{one} is carried out twice"
                open_updates.add(update)
            case events.UpdateCompleted(id=update):
                assert update in open_updates, f"{one} answers nothing"
    assert not [place for place, count in answered.items() if count > 1], "something was answered twice"


def _assert_pauses_fit(recorded: list[events.Recorded]) -> None:
    """A run is resumed after it was paused, and not paused twice in between."""
    notes = [type(one.event) for one in recorded if isinstance(one.event, events.RunPaused | events.RunResumed)]
    assert notes[::2] == [events.RunPaused] * len(notes[::2])
    assert notes[1::2] == [events.RunResumed] * len(notes[1::2])


def _assert_nothing_left(run: WorkflowRun) -> None:
    assert run.open_workflow_id is None
    assert run.closed_at is not None
    if WorkflowRun.objects.filter(continued_from=run.pk).exists():
        return  # what belongs to the chain has gone to the next run
    for table in (Dispatch, InboxMessage, ActivityTask):
        left = list(table.objects.filter(chain_id=run.chain_id))
        assert left == [], f"{table.__name__} rows of a closed run"
    _assert_answered(run)


def _assert_outcomes_unseen(run: WorkflowRun, recorded: list[events.Recorded]) -> None:
    """Of what the run's code has asked for, only outcomes are left that it had not seen when it ended."""
    if events.ended_from_outside(recorded[-1].event) is not None:
        return  # nobody knew which these were
    keys = {one.sequence: one.event.key for one in recorded if isinstance(one.event, events.ActivityScheduled)}
    for one in recorded:
        if isinstance(one.event, events.ActivityCompleted | events.ActivityFailed):
            keys.pop(one.event.activity, None)
    left = ActivityOutcome.objects.filter(chain_id=run.chain_id, key__startswith=f"{run.pk.hex}-")
    assert set(left.values_list("key", flat=True)) <= set(keys.values()), "outcomes that the run has seen"


def _assert_answered(run: WorkflowRun) -> None:
    for update in Update.objects.filter(chain_id=run.chain_id):
        assert update.state in ANSWERED, f"{update} is {update.state}, and its run is closed"
        assert update.closed_at is not None
        assert update.expires_at is not None
