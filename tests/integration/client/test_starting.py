"""Starts belong to the caller's transaction."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, transaction

from django_durable import Debounce, PayloadError, WorkflowAlreadyStarted, WorkflowNotFound, durable
from django_durable.client import starting
from django_durable.instrumentation import run_started
from django_durable.models import Dispatch, HistoryEvent, WorkflowRun
from django_durable.store import starts
from tests.flows import activities, workflows
from tests.integration.worker.invariants import assert_all_invariants
from tests.integration.worker.running import DEADLINE, in_thread, wait_for


class Undo(Exception):
    """Makes an atomic block roll back."""


def start_and_undo():
    with transaction.atomic():
        durable.start_workflow(workflows.echo.using(workflow_id="undone"), 1)
        raise Undo


def test_a_start_that_is_rolled_back_leaves_nothing(worker):
    with pytest.raises(Undo):
        start_and_undo()
    assert durable.start_workflow(workflows.echo, 2).result(timeout=DEADLINE) == 2  # the worker has looked
    with pytest.raises(WorkflowNotFound):
        durable.get_workflow("undone")
    assert [model.objects.count() for model in (WorkflowRun, Dispatch)] == [1, 0]
    assert not HistoryEvent.objects.exclude(run_id=WorkflowRun.objects.get().pk).exists()


@pytest.mark.server
def test_a_worker_never_sees_a_start_before_its_commit(worker):
    with transaction.atomic():
        early = durable.start_workflow(workflows.echo, "early")
        late = []
        other = in_thread(lambda: late.append(durable.start_workflow(workflows.echo, "late").result(timeout=DEADLINE)))
        other.join(DEADLINE)
        assert late == ["late"]  # the worker looked at least once meanwhile
        assert early.status().status == "pending"
        assert len(early.history()) == 1
    assert early.result(timeout=DEADLINE) == "early"


@pytest.mark.sqlite
def test_a_start_on_sqlite_becomes_visible_at_its_commit(worker):
    seen = []
    with transaction.atomic():
        handle = durable.start_workflow(workflows.echo.using(workflow_id="early"), "early")
        other = in_thread(lambda: seen.append(WorkflowRun.objects.filter(workflow_id="early").exists()))
        other.join(DEADLINE)
    assert seen == [False]
    assert handle.result(timeout=DEADLINE) == "early"


def test_arguments_that_cannot_be_stored_are_refused_before_anything_is_written(transactional_db):
    with pytest.raises(PayloadError):
        durable.start_workflow(workflows.echo, float("nan"))
    with pytest.raises(TypeError):
        durable.start_workflow(workflows.chain)  # type: ignore[call-arg]
    assert not WorkflowRun.objects.exists()
    assert not HistoryEvent.objects.exists()


def test_what_is_no_workflow_is_refused_with_the_ways_to_name_one(transactional_db):
    for wrong in ("flows.echo", activities.add, print):
        with pytest.raises(TypeError, match=r"needs a workflow.*durable\.workflow_named"):
            durable.start_workflow(wrong, 1)  # type: ignore[arg-type]
    assert not WorkflowRun.objects.exists()


def test_a_bulk_start_gives_handles_in_the_order_of_its_calls(worker):
    named = [workflows.echo.using(workflow_id=f"bulk-{9 - number}") for number in range(10)]
    calls = [(named[number] if number % 2 else workflows.echo).call(number) for number in range(10)]
    handles = durable.start_workflows(calls)
    assert [handle.result(timeout=DEADLINE) for handle in handles] == list(range(10))
    assert_all_invariants(handles)


def test_a_bulk_start_starts_all_or_none(transactional_db):
    durable.start_workflow(workflows.echo.using(workflow_id="taken"), 1)
    with pytest.raises(WorkflowAlreadyStarted):
        durable.start_workflows([workflows.echo.call(2), workflows.echo.using(workflow_id="taken").call(3)])
    assert WorkflowRun.objects.count() == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [(workflows.echo, r"echo\.call\(\.\.\.\) instead of <workflow flows\.echo>"), (5, r"takes calls, .* not 5")],
)
def test_a_bulk_start_of_what_is_no_call_says_what_to_give(transactional_db, wrong, told):
    with pytest.raises(TypeError, match=told):
        durable.start_workflows([workflows.echo.call(1), wrong])
    assert not WorkflowRun.objects.exists()


def test_a_workflow_id_is_taken_while_its_run_is_open(transactional_db):
    first = durable.start_workflow(workflows.echo.using(workflow_id="taken"), 1)
    with pytest.raises(WorkflowAlreadyStarted) as caught:
        durable.start_workflow(workflows.echo.using(workflow_id="taken"), 2)
    assert caught.value.run_id == first.run_id
    again = durable.start_workflow(workflows.echo.using(workflow_id="taken", on_conflict="use_existing"), 3)
    assert again.run_id == first.run_id


def test_terminate_existing_replaces_the_open_run(worker):
    first = durable.start_workflow(workflows.never_ends.using(workflow_id="taken"))
    wait_for(lambda: first.status().status == "running", "the first run to begin")
    second = durable.start_workflow(workflows.echo.using(workflow_id="taken", on_conflict="terminate_existing"), 2)
    assert second.result(timeout=DEADLINE) == 2
    assert first.status().status == "terminated"
    assert durable.get_workflow("taken").run_id == second.run_id
    assert_all_invariants([first, second])


def test_what_is_replaced_is_no_reason_to_refuse_the_id_and_what_has_ended_is(transactional_db):
    open_ = durable.start_workflow(workflows.echo.using(workflow_id="taken"), 1)
    strict = workflows.echo.using(workflow_id="taken", on_conflict="terminate_existing", on_reuse="reject")
    second = durable.start_workflow(strict, 2)
    assert open_.status().status == "terminated"
    durable.terminate_workflow("taken")
    with pytest.raises(WorkflowAlreadyStarted):
        durable.start_workflow(strict, 3)
    assert durable.get_workflow("taken").run_id == second.run_id


def test_what_a_start_would_replace_goes_on_if_the_start_comes_to_nothing(transactional_db, monkeypatch):
    open_ = durable.start_workflow(workflows.echo.using(workflow_id="taken"), 1)
    tries = []

    def insert(new: starts.NewRun) -> bool:
        """The second time, with the run in the way ended, the connection is lost."""
        tries.append(new)
        if len(tries) > 1:
            raise OperationalError("the server has gone")
        return False

    monkeypatch.setattr(starts, "insert", insert)
    with pytest.raises(OperationalError):
        durable.start_workflow(workflows.echo.using(workflow_id="taken", on_conflict="terminate_existing"), 2)
    assert len(tries) == 2
    assert open_.status().status == "pending"


def test_a_workflow_id_may_be_reused_after_its_run_has_ended_as_the_policy_says(worker):
    named = workflows.echo.using(workflow_id="again")
    durable.start_workflow(named, 1).result(timeout=DEADLINE)
    assert durable.start_workflow(named, 2).result(timeout=DEADLINE) == 2
    for policy in ("reject", "allow_if_failed"):
        with pytest.raises(WorkflowAlreadyStarted):
            durable.start_workflow(named.using(on_reuse=policy), 3)
    assert WorkflowRun.objects.for_workflow("again").count() == 2


def test_a_failed_run_lets_its_id_be_reused_if_that_is_allowed(worker):
    failing = durable.start_workflow(workflows.fail.using(workflow_id="again"), "no")
    wait_for(lambda: failing.status().is_closed, "the failure")
    assert durable.start_workflow(workflows.echo.using(workflow_id="again", on_reuse="allow_if_failed"), 2).result(
        timeout=DEADLINE
    )


@pytest.fixture
def told():
    """How many runs were told to have been made."""
    counts = []

    def note(count, **_):
        counts.append(count)

    run_started.connect(note)
    yield counts
    run_started.disconnect(note)


def test_only_runs_that_were_made_are_told_of(transactional_db, told):
    taken = workflows.echo.using(workflow_id="a", on_conflict="use_existing")
    quiet = workflows.echo.using(debounce=Debounce("k", wait=timedelta(hours=1)))
    run_id = durable.start_workflow(taken, 1).run_id
    assert durable.start_workflow(taken, 2).run_id == run_id
    starting.start_workflow(taken, (3,), {}, run_id=run_id)  # the same start once more
    durable.signal_with_start(workflows.approved("x"), taken, 4)
    assert told == [1]
    first, second = durable.start_workflow(quiet, 1), durable.start_workflow(quiet, 2)
    assert first.run_id == second.run_id
    assert told == [1, 1]
    durable.start_workflows([workflows.echo.call(1), taken.call(2), taken.using(workflow_id="b").call(3)])
    assert told == [1, 1, 2]
    durable.start_workflow(taken.using(on_conflict="terminate_existing"), 5)
    assert told == [1, 1, 2, 1]
    assert sum(told) == WorkflowRun.objects.count()


def test_of_many_starts_with_one_id_exactly_one_wins(worker):
    barrier, won, lost = threading.Barrier(6), [], []

    def compete():
        barrier.wait()
        try:
            won.append(durable.start_workflow(workflows.never_ends.using(workflow_id="contended")))
        except WorkflowAlreadyStarted as error:
            lost.append(error.run_id)

    for thread in [in_thread(compete) for _ in range(6)]:
        thread.join(DEADLINE)
    assert len(won) == 1
    assert lost == [won[0].run_id] * 5
