"""Verbs for many runs at once: each run is dealt with once, or skipped, whatever happens to it meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from django_durable import durable
from django_durable.client import BulkResult, bulk, pausing
from django_durable.models import Dispatch, HistoryEvent, InboxMessage, WorkflowRun
from django_durable.store import clock
from tests.flows import workflows
from tests.integration.store.sessions import Elsewhere, paused
from tests.integration.worker.running import DEADLINE, wait_for


@pytest.fixture
def runs(transactional_db, monkeypatch):
    """Seven runs in three batches, two of which have ended."""
    monkeypatch.setattr(bulk, "BATCH", 3)
    handles = durable.start_workflows([workflows.approval.call() for _ in range(7)])
    for handle in handles[2:4]:
        handle.terminate()
    return handles


EVERYTHING = WorkflowRun.objects.all()


def statuses():
    return sorted(WorkflowRun.objects.values_list("status", flat=True))


def test_a_signal_reaches_every_open_run_once(runs):
    assert durable.signal_workflows(EVERYTHING, workflows.approved("yes")) == BulkResult(done=5, skipped=2)
    assert InboxMessage.objects.values("chain_id").distinct().count() == InboxMessage.objects.count() == 5
    assert durable.signal_workflows(EVERYTHING.closed(), "approved", "yes") == BulkResult(skipped=2)


def test_many_are_cancelled_and_those_that_have_not_begun_end_at_once(runs):
    durable.start_workflow(workflows.echo.using(start_delay=timedelta(days=1)), 1)
    Dispatch.objects.filter(run_id__in=[run.run_id for run in runs[4:]]).update(epoch=1)
    durable.pause_queue("default")
    assert durable.cancel_workflows(EVERYTHING, "closing down") == BulkResult(done=6, skipped=2)
    assert InboxMessage.objects.count() == 3
    assert statuses() == [*["cancelled"] * 3, *["running"] * 3, *["terminated"] * 2]


def test_many_are_terminated_with_a_reason(runs):
    assert durable.terminate_workflows(EVERYTHING.named("flows.approval"), "wrong price") == BulkResult(
        done=5, skipped=2
    )
    assert statuses() == ["terminated"] * 7
    assert HistoryEvent.objects.filter(type="RunTerminated", data__contains="wrong price").count() == 5


def test_many_are_paused_and_resumed(runs):
    assert durable.pause_workflows(EVERYTHING) == BulkResult(done=5, skipped=2)
    assert EVERYTHING.paused().count() == 5
    assert durable.resume_workflows(EVERYTHING) == BulkResult(done=5, skipped=2)
    assert durable.resume_workflows(EVERYTHING) == BulkResult(skipped=7)


def test_a_verb_that_takes_runs_out_of_its_queryset_still_reaches_all_of_them(runs):
    assert durable.terminate_workflows(EVERYTHING.open()[:4]) == BulkResult(done=4)
    assert EVERYTHING.open().count() == 1


def test_a_queryset_of_something_else_is_refused(db):
    with pytest.raises(TypeError, match=r"of WorkflowRun, .*, not of Dispatch"):
        durable.terminate_workflows(Dispatch.objects.all())  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [5, None, [WorkflowRun()]])
def test_what_is_no_queryset_is_refused(db, wrong):
    for verb in (durable.cancel_workflows, durable.retry_failed, durable.pause_workflows):
        with pytest.raises(TypeError, match=r"such as WorkflowRun\.objects\.open\(\), not"):
            verb(wrong)


def test_in_a_transaction_all_of_it_belongs_to_that(runs):
    with transaction.atomic():
        durable.terminate_workflows(EVERYTHING)
        durable.signal_workflows(EVERYTHING, "approved", "x")
        transaction.set_rollback(True)
    assert EVERYTHING.open().count() == 5


def test_each_verb_has_an_async_twin(runs):
    assert async_to_sync(durable.aterminate_workflows)(EVERYTHING) == BulkResult(done=5, skipped=2)


def test_a_run_that_ends_meanwhile_is_skipped(runs, monkeypatch):
    find = bulk._open

    def find_and_end(run_ids):
        found = find(run_ids)
        for run in found:
            durable.terminate_workflow(run.workflow_id)
        return found

    monkeypatch.setattr(bulk, "_open", find_and_end)
    assert durable.signal_workflows(EVERYTHING, "approved", "x") == BulkResult(skipped=7)
    assert InboxMessage.objects.count() == 0


@pytest.mark.server
def test_a_run_that_somebody_is_ending_holds_up_only_itself(runs):
    ended = runs[0]
    with paused(ended.terminate):
        sending = Elsewhere(lambda: durable.signal_workflows(EVERYTHING, "approved", "x"))
        wait_for(lambda: InboxMessage.objects.count() >= 2, "the others in its batch to have their signals")
    assert sending.result() == BulkResult(done=4, skipped=3)


@pytest.mark.server
def test_a_run_that_stays_locked_is_skipped(runs, monkeypatch):
    monkeypatch.setattr(pausing, "PATIENCE", 0.05)
    with paused(runs[0].terminate) as other:
        assert durable.pause_workflows(EVERYTHING) == BulkResult(done=4, skipped=3)
        other.rollback()
    assert EVERYTHING.paused().count() == 4


def test_workers_carry_on_with_what_was_sent(runs, worker):
    durable.signal_workflows(EVERYTHING, "approved", "yes")
    wait_for(lambda: EVERYTHING.open().count() == 0, "the runs to end")
    assert statuses() == [*["completed"] * 5, *["terminated"] * 2]
    assert {run.result(timeout=DEADLINE) for run in (*runs[:2], *runs[4:])} == {"yes"}


def test_runs_are_found_by_when_they_ended(runs):
    assert EVERYTHING.closed_since(clock.read() - timedelta(minutes=5)).count() == 2
    assert EVERYTHING.closed_since(clock.read() + timedelta(minutes=5)).count() == 0
    WorkflowRun.objects.filter(pk=runs[2].run_id).update(status="timed_out")
    assert EVERYTHING.timed_out().count() == 1
