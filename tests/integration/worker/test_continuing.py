"""Chains of runs that continue as new: one piece of work for everybody outside."""

from __future__ import annotations

import itertools
import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from django_durable import (
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowTerminated,
    WorkflowTimedOut,
    durable,
)
from django_durable.client import WorkflowHandle
from django_durable.engine import continuing
from django_durable.history import events
from django_durable.instrumentation import history_long
from django_durable.models import ActivityOutcome, ActivityTask, Dispatch, RunAttribute, WorkflowRun
from django_durable.store import history
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


def runs_of(handle: WorkflowHandle[Any]) -> list[WorkflowRun]:
    """The runs of the handle's chain, in order."""
    return list(WorkflowRun.objects.filter(chain_id=handle.run_id).order_by("created_at", "id"))


def assert_chain(handle: WorkflowHandle[Any], length: int) -> list[WorkflowRun]:
    """Each run has its place in the chain, and only the last may be open."""
    runs = runs_of(handle)
    assert len(runs) == length
    assert [run.continued_from for run in runs] == [None, *(run.pk for run in runs[:-1])]
    assert {run.workflow_id for run in runs} == {handle.workflow_id}
    for run, following in itertools.pairwise(runs):
        last = history.read([run.pk])[run.pk][-1].event
        assert isinstance(last, events.RunContinuedAsNew)
        assert (run.status, last.run_id) == ("continued_as_new", following.pk)
    assert_all_invariants([WorkflowHandle(run.workflow_id, run.pk) for run in runs])
    return runs


@pytest.mark.parametrize("cache", [0, 1000])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_handle_follows_the_chain_to_its_result(make_worker, configure, cache, workers):
    configure(INSTANCE_CACHE_SIZE=cache)
    for _ in range(workers):
        make_worker()
    handle = durable.start_workflow(workflows.counts_down.using(workflow_id="count"), 4)
    done, attempt, before = handle.result(timeout=DEADLINE)
    runs = assert_chain(handle, 5)
    assert (done, attempt, UUID(before)) == (4, 1, runs[3].pk)
    assert Entry.objects.filter(kind="counted").count() == 5
    assert handle.status().status == "completed"
    assert durable.get_workflow("count").run_id == runs[-1].pk
    assert durable.get_workflow("count").result(timeout=1)[0] == 4
    assert durable.get_workflow_status("count").run_id == runs[-1].pk
    assert handle.history()[-1].type == "RunContinuedAsNew"


def test_a_message_reaches_whichever_run_is_open(worker):
    handle = durable.start_workflow(workflows.takes_in_turn, [])
    for word in "abcdef":
        handle.signal(workflows.approved(word))
        durable.get_workflow(handle.workflow_id).signal(workflows.approved(word.upper()))
    handle.signal(workflows.approved("stop"))
    assert handle.result(timeout=DEADLINE) == list("aAbBcCdDeEfF")
    assert_chain(handle, 13)


@pytest.mark.parametrize("cache", [0, 1000])
def test_signals_that_nobody_took_go_to_the_next_run_in_order(worker, configure, cache):
    configure(INSTANCE_CACHE_SIZE=cache)
    handle = durable.start_workflow(workflows.leaves_the_rest, [])
    for word in ["a", "b", "c", "stop"]:
        handle.signal(workflows.approved(word))
    handle.signal("go")
    assert handle.result(timeout=DEADLINE) == ["a", "b", "c", "stop"]
    assert_chain(handle, 4)


def test_what_belongs_to_the_chain_is_carried(worker):
    handle = durable.start_workflow(
        workflows.takes_in_turn.using(
            workflow_id="carried", queue="default", priority=7, execution_timeout=timedelta(hours=2)
        ),
        [],
    )
    WorkflowRun.objects.filter(pk=handle.run_id).update(
        label="for people",
        headers="h",
        open_subject="s:1",
        subject_type="s",
        subject_id="1",
        schedule="daily",
        progress="half",
    )
    RunAttribute.objects.create(run_id=handle.run_id, key="customer", value="7", number=7)
    handle.signal(workflows.approved("a"))
    first, second = wait_for(lambda: len(runs := runs_of(handle)) == 2 and runs, "the next run")
    for name in ("priority", "label", "headers", "subject_type", "subject_id", "schedule", "execution_deadline"):
        assert getattr(second, name) == getattr(first, name)
    assert (first.open_subject, second.open_subject) == (None, "s:1")
    assert (first.open_workflow_id, second.open_workflow_id) == (None, "carried")
    assert second.progress is None
    assert RunAttribute.objects.get(run_id=second.pk).number == 7
    row = Dispatch.objects.get(pk=handle.run_id)
    assert (row.run_id, row.priority, row.deadline) == (second.pk, 7, first.execution_deadline)
    handle.signal(workflows.approved("stop"))
    assert handle.result(timeout=DEADLINE) == ["a"]


def test_the_limit_of_a_chain_is_that_of_all_its_runs(worker):
    handle = durable.start_workflow(
        workflows.continues_for_ever.using(execution_timeout=timedelta(seconds=1), run_timeout=timedelta(hours=1)), 1
    )
    with pytest.raises(WorkflowTimedOut, match="execution_timeout"):
        handle.result(timeout=DEADLINE)
    assert len(runs_of(handle)) > 2


def test_the_limit_of_a_run_begins_again_with_each(worker):
    handle = durable.start_workflow(workflows.takes_in_turn.using(run_timeout=timedelta(seconds=1)), [])
    handle.signal(workflows.approved("a"))
    with pytest.raises(WorkflowTimedOut, match="run_timeout"):
        handle.result(timeout=DEADLINE)
    first, second = runs_of(handle)
    assert (first.status, second.status) == ("continued_as_new", "timed_out")
    times = [one.time for one in history.read([second.pk])[second.pk]]
    assert times[-1] - times[0] >= timedelta(seconds=1)


@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_a_chain_is_ended_through_the_handle_of_any_of_its_runs(worker, how):
    handle = durable.start_workflow(workflows.continues_for_ever, 1)
    wait_for(lambda: len(runs_of(handle)) > 2, "some runs")
    assert getattr(handle, how)("enough")
    with pytest.raises(WorkflowCancelled if how == "cancel" else WorkflowTerminated, match="enough"):
        handle.result(timeout=DEADLINE)
    assert not getattr(handle, how)()
    assert not Dispatch.objects.exists()


def test_what_was_under_way_is_given_up(worker, make_gate):
    gate = make_gate("left")
    handle = durable.start_workflow(workflows.leaves_an_activity, "left")
    assert handle.result(timeout=DEADLINE) == "done"
    gate.set()
    assert_chain(handle, 2)
    assert not ActivityTask.objects.exists()
    assert not ActivityOutcome.objects.exists()
    assert durable.start_workflow(workflows.echo, 1).result(timeout=DEADLINE) == 1  # the slot is free again


def test_the_workflow_id_stays_taken(worker):
    handle = durable.start_workflow(workflows.continues_for_ever.using(workflow_id="taken"), 1)
    wait_for(lambda: len(runs_of(handle)) > 2, "some runs")
    other = durable.start_workflow(
        workflows.continues_for_ever.using(workflow_id="taken", on_conflict="use_existing"), 1
    )
    assert WorkflowRun.objects.get(pk=other.run_id).chain_id == handle.run_id
    handle.terminate()


def test_many_chains_at_once(make_worker):
    for _ in range(3):
        make_worker()
    handles = durable.start_workflows([workflows.counts_down.call(3) for _ in range(30)])
    assert [handle.result(timeout=DEADLINE)[0] for handle in handles] == [3] * 30
    for handle in handles:
        assert_chain(handle, 4)
    assert Entry.objects.filter(kind="counted").count() == 120


# Long histories


def test_a_long_history_is_told_once(worker, monkeypatch, caplog):
    monkeypatch.setattr(continuing, "EVENTS_WARNED", 6)
    told: list[int] = []

    def note(events: int, **_: object) -> None:
        told.append(events)

    history_long.connect(note)
    with caplog.at_level(logging.WARNING, "django_durable.worker"):
        handle = durable.start_workflow(workflows.grows)
        for _ in range(10):
            handle.signal(workflows.approved("more"))
        handle.signal(workflows.approved("stop"))
        assert handle.result(timeout=DEADLINE) == 12
    history_long.disconnect(note)
    assert told == [6]
    assert caplog.text.count("continue as new") == 1
    assert_invariants(handle)


def test_a_history_that_is_too_long_fails_the_run_and_says_what_to_do(worker, monkeypatch):
    monkeypatch.setattr(continuing, "EVENTS_LIMIT", 20)
    with transaction.atomic():  # the worker sees all of it at once
        handle = durable.start_workflow(workflows.grows)
        for _ in range(25):
            handle.signal(workflows.approved("more"))
    with pytest.raises(WorkflowFailed, match=r"ctx.continue_as_new\(") as caught:
        handle.result(timeout=DEADLINE)
    assert caught.value.type == "HistoryTooLong"
    assert len(handle.history()) == 21
    assert_invariants(handle)
