"""Runs that begin later than they are started."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from django_durable import WorkflowCancelled, WorkflowTerminated, WorkflowTimedOut, durable
from django_durable.client import messaging
from django_durable.models import Dispatch
from django_durable.store import claims, dispatch, inbox
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.store.sessions import paused
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for

SOON, LATER = timedelta(seconds=0.6), timedelta(hours=1)


@pytest.mark.parametrize("option", ["start_delay", "start_at"])
def test_a_delayed_run_begins_when_it_should_and_not_before(worker, option):
    asked = timezone.now()
    delayed = {
        "start_delay": workflows.chain.using(start_delay=SOON),
        "start_at": workflows.chain.using(start_at=asked + SOON),
    }
    handle = durable.start_workflow(delayed[option], 1)
    assert handle.status().status == "pending"
    assert handle.result(timeout=DEADLINE) == 1
    started, scheduled, *_ = handle.history()
    assert started.time - asked >= SOON - timedelta(milliseconds=20)  # two clocks
    assert scheduled.time >= started.time
    assert_invariants(handle)


def test_a_beginning_in_the_past_is_now(worker):
    handle = durable.start_workflow(workflows.echo.using(start_at=timezone.now() - LATER), 1)
    assert not Dispatch.objects.filter(hold__isnull=False).exists()
    assert handle.result(timeout=DEADLINE) == 1
    assert timezone.now() - handle.history()[0].time < timedelta(minutes=10)


def test_no_delay_at_all_is_no_hold(worker):
    handle = durable.start_workflow(workflows.echo.using(start_delay=timedelta(0)), 1)
    assert handle.result(timeout=DEADLINE) == 1


def test_the_time_inside_a_delayed_run_is_that_of_its_beginning(worker):
    handle = durable.start_workflow(workflows.time_of_start.using(start_delay=SOON))
    now, started = handle.result(timeout=DEADLINE)
    assert now == started == handle.history()[0].time.isoformat()


def test_messages_do_not_wake_a_delayed_run_and_are_there_when_it_begins(worker):
    handle = durable.start_workflow(workflows.collect_signals.using(start_delay=SOON), 2)
    handle.signal(workflows.approved("first"))
    handle.signal(workflows.approved("second"))
    assert dispatch.make_due([handle.run_id]) == 0
    assert inbox.awaited(0) == (set(), set(), set())
    assert handle.result(timeout=DEADLINE) == ["first", "second"]
    assert handle.history()[1].time >= handle.history()[0].time
    assert_invariants(handle)


def test_a_run_that_has_begun_after_a_delay_is_woken_by_messages(worker):
    handle = durable.start_workflow(workflows.until_told.using(start_delay=timedelta(milliseconds=50)))
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch=1, hold=None), "the run to begin and fall asleep")
    handle.signal(workflows.approved("stop"))
    assert handle.result(timeout=DEADLINE) == 0


# Ending what has not begun


@pytest.mark.django_db(transaction=True)
def test_a_delayed_run_is_cancelled_at_once_without_a_worker():
    handle = durable.start_workflow(workflows.effects.using(start_delay=LATER), "never", 1)
    handle.signal(workflows.approved("yes"))
    assert handle.cancel("not needed")
    assert handle.status().status == "cancelled"
    with pytest.raises(WorkflowCancelled, match="not needed"):
        handle.result(timeout=1)
    assert [entry.type for entry in handle.history()] == ["RunStarted", "RunCancelled"]
    assert handle.history()[1].data["unhandled"] == ("approved",)
    assert not handle.cancel()
    assert_invariants(handle)


@pytest.mark.django_db(transaction=True)
def test_a_delayed_run_is_terminated_at_once_without_a_worker():
    handle = durable.start_workflow(workflows.echo.using(start_delay=LATER), 1)
    assert handle.terminate("not needed")
    with pytest.raises(WorkflowTerminated, match="not needed"):
        handle.result(timeout=1)
    assert_invariants(handle)


@pytest.mark.django_db(transaction=True)
def test_a_cancellation_that_is_rolled_back_has_not_happened():
    handle = durable.start_workflow(workflows.echo.using(start_delay=LATER), 1)
    with transaction.atomic():
        assert handle.cancel()
        transaction.set_rollback(True)
    assert handle.status().status == "pending"
    assert Dispatch.objects.get().hold == "delayed"
    assert_invariants(handle)


@pytest.mark.server
def test_a_delayed_run_whose_row_a_sender_has_is_cancelled_without_its_code_by_a_worker(worker):
    handle = durable.start_workflow(workflows.effects.using(start_delay=LATER), "never", 1)
    with paused(lambda: handle.signal(workflows.approved("yes"))):
        assert handle.cancel("not needed")
        assert handle.status().status == "pending"
    wait_for(lambda: handle.status().is_closed, "the run to end")
    with pytest.raises(WorkflowCancelled, match="not needed"):
        handle.result(timeout=1)
    assert [entry.type for entry in handle.history()] == ["RunStarted", "RunCancelled"]
    assert handle.history()[1].data["unhandled"] == ("approved",)
    assert not Entry.objects.exists()
    assert_invariants(handle)


def test_a_request_to_cancel_that_comes_as_the_run_begins_is_an_ordinary_one(worker):
    handle = durable.start_workflow(workflows.clean_up_when_cancelled.using(start_delay=timedelta(0.0)), "k")
    wait_for(lambda: handle.status().started_at, "the run to begin")
    assert handle.cancel()
    with pytest.raises(WorkflowCancelled):
        handle.result(timeout=DEADLINE)
    assert Entry.objects.filter(kind="cleanup").count() == 1


def test_a_delayed_run_whose_time_is_up_before_it_begins_never_begins(worker):
    limited = workflows.effects.using(start_delay=LATER, execution_timeout=timedelta(seconds=0.3))
    handle = durable.start_workflow(limited, "never", 1)
    with pytest.raises(WorkflowTimedOut, match="execution_timeout"):
        handle.result(timeout=DEADLINE)
    assert [entry.type for entry in handle.history()] == ["RunStarted", "RunTimedOut"]
    assert_invariants(handle)


@pytest.mark.django_db(transaction=True)
def test_a_hint_wakes_a_delayed_run_only_if_it_is_meant_to():
    handle = durable.start_workflow(workflows.echo.using(start_delay=LATER), 1)
    messaging.hint(handle.run_id)
    assert not claims.due("default", 0).exists()
    messaging.hint(handle.run_id, holds=(dispatch.DELAYED,))
    assert claims.due("default", 0).exists()
