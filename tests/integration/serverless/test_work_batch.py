"""``work_batch``: a worker for one call, on whatever platform."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import transaction

from django_durable import Rate, Schedule, WorkBatchFailed, WouldWaitForever, durable
from django_durable.models import Dispatch, Worker, WorkflowRun
from django_durable.store import leases
from django_durable.worker import embedded
from tests.flows import functions, workflows
from tests.integration.worker.gates import make_gate
from tests.integration.worker.invariants import assert_all_invariants
from tests.integration.worker.running import DEADLINE, wait_for

__all__ = ["make_gate"]

SECONDS = 30.0


def test_it_works_until_nothing_is_due(configure):
    handles = [durable.start_workflow(workflows.effects, f"run{number}", 2) for number in range(5)]
    batch = durable.work_batch(max_seconds=SECONDS)
    assert (batch.finished, batch.left, batch.next_due, batch.activities) == (True, (), None, 10)
    assert batch.taken >= 5
    assert batch.events >= 25
    assert {handle.status().status for handle in handles} == {"completed"}
    assert_all_invariants(handles)
    assert Worker.objects.count() == 0
    assert [one.name for one in threading.enumerate() if one.name.startswith("durable-")] == []


def test_without_anything_to_do_it_ends(configure):
    assert durable.work_batch(max_seconds=SECONDS).as_dict() == {
        "finished": True,
        "left": [],
        "next_due": None,
        "taken": 0,
        "activities": 0,
        "events": 0,
        "seconds": pytest.approx(0.0, abs=SECONDS),
    }


def test_it_tells_when_to_call_it_again(configure):
    handle = durable.start_workflow(workflows.approval, 3_600.0)
    batch = durable.work_batch(max_seconds=SECONDS)
    assert batch.next_due == handle.status().wakeup_at


def test_its_async_twin_does_the_same(configure):
    handle = durable.start_workflow(workflows.echo, "x")
    assert async_to_sync(durable.awork_batch)(max_seconds=SECONDS).finished
    assert handle.result(timeout=0) == "x"


def test_it_serves_the_queues_that_it_is_told(configure):
    here = durable.start_workflow(workflows.echo.using(queue="here"), "x")
    there = durable.start_workflow(workflows.echo.using(queue="there"), "x")
    durable.work_batch(max_seconds=SECONDS, queues=["here"])
    assert [here.status().status, there.status().status] == ["completed", "pending"]


def test_when_the_time_is_up_it_says_what_is_left_and_owns_nothing(configure):
    handles = [durable.start_workflow(functions.shift, f"run{number}", 60.0) for number in range(3)]
    batch = durable.work_batch(max_seconds=2.0, concurrency=1)
    assert (batch.finished, batch.left) == (False, ("default",))
    assert not Dispatch.objects.filter(owner__isnull=False).exists()
    for handle in handles:
        handle.terminate()


def test_an_activity_that_does_not_end_in_time_counts_as_interrupted(configure, make_gate):
    gate = make_gate("late")
    handle = durable.start_workflow(workflows.hold_then_collect, "late", 0)
    batch = durable.work_batch(max_seconds=2.0)
    assert not batch.finished
    assert not Dispatch.objects.filter(owner__isnull=False).exists()
    assert Worker.objects.count() == 0
    gate.set()
    wait_for(lambda: not [one for one in threading.enumerate() if one.name.startswith("durable-")], "its thread to end")
    handle.terminate()


def test_it_need_not_stay_until_a_rate_lets_more_in(configure):
    durable.set_queue("default", counts="workflows", rate=Rate(1, per=timedelta(hours=1)))
    handles = [durable.start_workflow(workflows.echo, number) for number in range(3)]
    batch = durable.work_batch(max_seconds=SECONDS, wait_for_places=False)
    assert (batch.finished, batch.left) == (True, ())
    assert sorted(handle.status().status for handle in handles) == ["completed", "pending", "pending"]
    assert batch.next_due is not None
    assert batch.next_due - handles[0].status().created_at > timedelta(minutes=50)
    again = durable.work_batch(max_seconds=SECONDS, wait_for_places=False)
    assert (again.finished, again.taken, again.next_due) == (True, 0, batch.next_due)
    staying = durable.work_batch(max_seconds=2.0)
    assert (staying.finished, staying.left) == (False, ("default",))


def test_it_need_not_stay_until_others_give_up_their_places(configure):
    durable.set_queue("default", counts="workflows", concurrency=1)
    sleeping = durable.start_workflow(workflows.approval, 3_600.0)
    waiting = durable.start_workflow(workflows.echo, "x")
    batch = durable.work_batch(max_seconds=SECONDS, wait_for_places=False)
    assert (batch.finished, batch.next_due) == (True, sleeping.status().wakeup_at)
    sleeping.signal(workflows.approved("yes"))
    assert durable.work_batch(max_seconds=SECONDS, wait_for_places=False).finished
    assert waiting.result(timeout=0) == "x"


def test_it_refuses_to_work_inside_a_transaction(configure):
    with transaction.atomic(), pytest.raises(WouldWaitForever, match=r"work_batch\(\) .* inside an open transaction"):
        durable.work_batch(max_seconds=SECONDS)


def test_a_worker_that_breaks_down_is_an_error(configure, monkeypatch):
    def register(*args, **kwargs):
        raise RuntimeError("broken")

    monkeypatch.setattr(leases, "register", register)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    with pytest.raises(WorkBatchFailed, match="broke down"):
        durable.work_batch(max_seconds=SECONDS)


@pytest.mark.parametrize("work", ["work_batch", "--burst"])
def test_what_is_due_by_a_schedule_is_done_before_it_ends(configure, work):
    durable.create_schedule("often", Schedule(every=timedelta(days=1)), workflows.echo, "x").trigger()
    if work == "work_batch":
        durable.work_batch(max_seconds=SECONDS)
    else:
        call_command("durable_worker", burst=True, verbosity=0)
    assert WorkflowRun.objects.get(schedule="often").status == "completed"


def test_a_process_may_have_a_worker_of_its_own_after_a_burst():
    call_command("durable_worker", burst=True, verbosity=0)
    worker = embedded.start_embedded_worker()
    assert worker is not None
    worker.stop()
    assert worker.join(DEADLINE)


def test_what_a_dead_worker_had_is_done_before_it_ends(configure):
    configure(LEASE_SECONDS=1.0)
    handle = durable.start_workflow(workflows.echo, "x")
    dead = leases.register("dead", queues=("default",), definitions=(), concurrency=1, release="")
    Dispatch.objects.update(owner=dead, epoch=1)
    wait_for(lambda: leases.anybody_expired(by=0), "its lease to end")
    durable.work_batch(max_seconds=SECONDS)
    assert handle.result(timeout=0) == "x"
