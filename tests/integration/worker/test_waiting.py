"""Runs and activities that wait for their place: they end when they are told to, and when their time is up."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from django_durable import WorkflowCancelled, WorkflowTimedOut, durable
from django_durable.instrumentation import run_closed
from django_durable.models import ActivityTask, Dispatch, InboxMessage, WorkflowRun
from tests.flows import lasting, workflows
from tests.flows.models import Entry
from tests.integration.store.sessions import paused
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for

SHORT = timedelta(seconds=0.4)
EFFECTS = workflows.effects.using(queue="limited")


def of(handle):
    return Dispatch.objects.filter(run_id=handle.run_id)


@pytest.fixture
def full(make_worker):
    """A queue with one place, which a run has that sleeps."""
    durable.set_queue("limited", counts="workflows", concurrency=1)
    make_worker(queues=("default", "limited"))
    handle = durable.start_workflow(workflows.approval.using(queue="limited"))
    wait_for(lambda: of(handle).filter(admitted=True, owner=None).exists(), "the first to have the place, and to sleep")
    return handle


@pytest.fixture
def rests(make_worker):
    """A queue that nothing is taken from."""
    durable.pause_queue("limited")
    make_worker(queues=("default", "limited"))


@pytest.fixture
def code_rests(make_worker):
    """A workflow whose runs nobody takes."""
    durable.pause_definition(workflows.effects)
    make_worker(queues=("default", "limited"))


@pytest.fixture
def unserved(make_worker):
    """A queue that no worker serves."""
    make_worker(queues=("default",))


WAITS = pytest.mark.parametrize("place", ["full", "rests", "code_rests", "unserved"])


@pytest.fixture
def waiting(request, place):
    """A run that has not begun, and does not."""
    request.getfixturevalue(place)
    return durable.start_workflow(EFFECTS.using(execution_timeout=timedelta(hours=1)), "never", 1)


# Without a place


@pytest.mark.parametrize("place", ["full", "rests", "code_rests"])
def test_what_has_not_begun_is_cancelled_at_once(waiting):
    waiting.signal(workflows.approved("yes"))
    assert waiting.cancel("not needed")
    wait_for(lambda: waiting.status().is_closed, "a worker to end it, if one has just had its row")
    with pytest.raises(WorkflowCancelled, match="not needed"):
        waiting.result(timeout=1)
    assert [event.type for event in waiting.history()] == ["RunStarted", "RunCancelled"]
    assert waiting.history()[1].data["unhandled"] == ("approved",)
    assert not waiting.cancel()
    assert_invariants(waiting)
    assert not Entry.objects.exists()


@WAITS
def test_what_has_not_begun_times_out_in_time(waiting):
    closed = []

    def note(**named):
        closed.append((named["workflow_id"], named["status"]))

    run_closed.connect(note)
    limited = durable.start_workflow(EFFECTS.using(execution_timeout=SHORT), "never", 1)
    with pytest.raises(WorkflowTimedOut, match="execution_timeout"):
        limited.result(timeout=DEADLINE)
    assert [event.type for event in limited.history()] == ["RunStarted", "RunTimedOut"]
    wait_for(lambda: closed == [(limited.workflow_id, "timed_out")], "it to be told")
    assert waiting.status().status == "pending"
    assert_invariants(limited)
    assert not Entry.objects.exists()


def test_nobodys_place_is_taken(full):
    waits = durable.start_workflows([EFFECTS.call(str(number), 1) for number in range(3)])
    assert waits[0].cancel()
    assert full.status().status == "running"
    assert [handle.status().status for handle in waits] == ["cancelled", "pending", "pending"]
    full.signal(workflows.approved("yes"))
    assert [len(handle.result(timeout=DEADLINE)) for handle in waits[1:]] == [1, 1]
    assert set(Entry.objects.values_list("key", flat=True)) == {"1/0", "2/0"}


def test_many_that_wait_are_cancelled_together(full):
    durable.start_workflows([EFFECTS.call(str(number), 1) for number in range(30)])
    result = durable.cancel_workflows(WorkflowRun.objects.open().filter(queue="limited"), "the shop closes")
    assert (result.done, result.skipped) == (31, 0)
    assert WorkflowRun.objects.filter(status="cancelled", started_at=None).count() == 30
    with pytest.raises(WorkflowCancelled, match="the shop closes"):
        full.result(timeout=DEADLINE)
    assert not Entry.objects.exists()
    assert not InboxMessage.objects.exists()


def test_a_start_and_its_cancellation_may_share_a_transaction():
    with transaction.atomic():
        handle = durable.start_workflow(workflows.effects.using(start_delay=timedelta(hours=1)), "never", 1)
        assert handle.cancel()
        assert handle.status().status == "cancelled"
    assert_invariants(handle)
    assert not Dispatch.objects.exists()


def test_what_has_begun_is_asked(worker):
    handle = durable.start_workflow(workflows.clean_up_when_cancelled, "k")
    wait_for(lambda: handle.status().started_at, "the run to begin")
    assert handle.cancel()
    with pytest.raises(WorkflowCancelled):
        handle.result(timeout=DEADLINE)
    assert Entry.objects.filter(kind="cleanup").count() == 1


def test_what_only_waits_for_a_worker_is_asked_when_one_comes(make_worker):
    handle = durable.start_workflow(workflows.clean_up_when_cancelled, "k")
    handle.signal(workflows.approved("yes"))
    assert handle.cancel()
    assert handle.status().status == "pending"
    make_worker()
    with pytest.raises(WorkflowCancelled):
        handle.result(timeout=DEADLINE)
    assert Entry.objects.filter(kind="cleanup").count() == 1
    assert_invariants(handle)


@pytest.mark.server
@pytest.mark.parametrize("place", ["full", "rests"])
def test_a_worker_ends_what_the_caller_could_not(waiting):
    with paused(lambda: waiting.signal(workflows.approved("yes"))):
        assert waiting.cancel("not needed")
        assert waiting.status().status == "pending"
    wait_for(lambda: waiting.status().is_closed, "the run to end")
    with pytest.raises(WorkflowCancelled, match="not needed"):
        waiting.result(timeout=1)
    assert [event.type for event in waiting.history()] == ["RunStarted", "RunCancelled"]
    assert_invariants(waiting)
    assert not Entry.objects.exists()


def test_the_time_of_what_has_begun_is_up_in_a_paused_queue_too(make_worker):
    make_worker(queues=("default", "limited"))
    handle = durable.start_workflow(workflows.clean_up_when_cancelled.using(queue="limited", run_timeout=SHORT), "k")
    wait_for(lambda: of(handle).filter(epoch=1).exists(), "the run to begin")
    durable.pause_queue("limited")
    with pytest.raises(WorkflowTimedOut):
        handle.result(timeout=DEADLINE)
    assert_invariants(handle)


# Families


@pytest.mark.parametrize("place", ["full", "rests"])
def test_a_parent_that_is_cancelled_does_not_wait_for_the_turn_of_its_child(request, place):
    request.getfixturevalue(place)
    parent = durable.start_workflow(workflows.parent_by_name, "flows.effects", ["never", 1], {"queue": "limited"})
    child = wait_for(lambda: WorkflowRun.objects.filter(name="flows.effects").first(), "the child")
    wait_for(lambda: of(parent).filter(owner=None).exists(), "the parent to sleep")
    assert parent.cancel()
    with pytest.raises(WorkflowCancelled):
        parent.result(timeout=DEADLINE)
    child.refresh_from_db()
    assert (child.status, child.started_at) == ("cancelled", None)
    assert_invariants(parent)


@pytest.mark.parametrize("place", ["full", "rests"])
@pytest.mark.parametrize(("policy", "status"), [("terminate", "terminated"), ("cancel", "cancelled")])
def test_a_child_whose_parent_has_ended_does_not_wait_for_its_turn(request, place, policy, status):
    request.getfixturevalue(place)
    options = {"queue": "limited", "parent_close": policy}
    parent = durable.start_workflow(workflows.parent_by_name, "flows.effects", ["never", 1], options)
    child = wait_for(lambda: WorkflowRun.objects.filter(name="flows.effects").first(), "the child")
    assert parent.terminate()
    wait_for(lambda: WorkflowRun.objects.filter(pk=child.pk, status=status).exists(), "the child to end")
    assert not Entry.objects.exists()
    assert not Dispatch.objects.filter(run_id=child.pk).exists()


# Activities


@pytest.fixture(params=["full", "rests"])
def busy(request, make_worker, make_gate):
    """A queue of activities that lets no more in."""
    gate = make_gate("g")
    durable.set_queue("limited", concurrency=1)
    if request.param == "rests":
        durable.pause_queue("limited")
    make_worker(queues=("default", "limited"))
    if request.param == "full":
        durable.start_workflow(workflows.wait_at_gate.using(queue="limited"), "g")
        wait_for(lambda: ActivityTask.objects.filter(admitted=True).exists(), "the place to be taken")
    yield
    gate.set()


def unbegun():
    return ActivityTask.objects.filter(queue="limited", worker=None, attempt=0)


def test_an_activity_that_waits_is_given_up_at_once(busy):
    handle = durable.start_workflow(lasting.gives_up, "flows.until_cancelled", "k", "limited")
    wait_for(lambda: unbegun().exists(), "the task")
    handle.signal("enough")
    assert handle.result(timeout=DEADLINE) == "given up"
    assert not unbegun().exists()
    assert not Entry.objects.exists()
    assert_invariants(handle)


@pytest.mark.parametrize("limit", ["schedule_to_start", "schedule_to_close"])
def test_the_time_of_an_activity_that_waits_is_up_in_time(busy, limit):
    handle = durable.start_workflow(lasting.within, "flows.beats", [0.0], {limit: 0.3}, "limited")
    failure = handle.result(timeout=DEADLINE)
    assert (failure["timeout"], failure["attempts"]) == (limit, 0)
    assert not unbegun().exists()
    assert_invariants(handle)
