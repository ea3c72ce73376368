"""What becomes of an activity whose call is cancelled: try, wait, abandon."""

from __future__ import annotations

import pytest

from django_durable import durable
from django_durable.models import ActivityTask
from django_durable.worker import maintenance
from tests.flows import lasting
from tests.flows.models import Entry
from tests.integration.worker.deaths import declare_dead, past_worker
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for

QUEUES = pytest.mark.parametrize("queue", [None, "elsewhere"], ids=["local", "remote"])


@pytest.fixture(params=[0, 512], ids=["no cache", "cache"])
def cache(request, configure):
    configure(INSTANCE_CACHE_SIZE=request.param)


def cancel(how, name, queue=None):
    handle = durable.start_workflow(lasting.cancels, how, f"flows.{name}", "k", queue)
    wait_for(lambda: Entry.objects.filter(kind="begun"), "the activity to begin")
    handle.signal("enough")
    return handle


def end(handle):
    handle.signal("end")
    result = handle.result(timeout=DEADLINE)
    assert_invariants(handle)
    return result


@QUEUES
def test_wait_sees_the_end_of_an_activity_that_stops(make_worker, cache, queue):
    make_worker()
    make_worker(queues=("elsewhere",))
    handle = cancel("wait", "until_cancelled", queue)
    assert end(handle) == ["cancelled", 1]
    [failed] = [one for one in handle.history() if one.type == "ActivityFailed"]
    assert failed.data["failure"]["type"] == "CancelledError"


def test_wait_sees_the_end_of_an_async_activity(worker, cache):
    assert end(cancel("wait", "until_cancelled_async")) == ["cancelled", 1]


@QUEUES
def test_wait_sees_the_end_of_an_activity_that_does_not_listen(make_worker, cache, queue):
    make_worker()
    make_worker(queues=("elsewhere",))
    handle = cancel("wait", "goes_to_its_end", queue)
    wait_for(lambda: "ActivityCancelRequested" in [one.type for one in handle.history()], "the request")
    Entry.objects.create(kind="go", key="k")
    assert end(handle) == ["cancelled", 1]
    assert [one.type for one in handle.history()].count("ActivityCompleted") == 2


def test_wait_does_not_wait_for_what_nobody_executes(worker, cache):
    handle = cancel("wait", "fails_and_waits")
    assert end(handle) == ["cancelled", 0]
    assert not ActivityTask.objects.exists()


def test_wait_goes_on_when_the_worker_that_was_asked_has_died(make_worker):
    make_worker()
    handle = durable.start_workflow(lasting.cancels, "wait", "flows.until_cancelled", "k", "elsewhere")
    wait_for(ActivityTask.objects.exists, "the task")
    asked = past_worker(dead=False, expired=False)
    ActivityTask.objects.update(worker=asked, attempt=1)
    handle.signal("enough")
    wait_for(lambda: ActivityTask.objects.filter(cancel_requested=True), "the request")
    declare_dead(asked)
    wait_for(lambda: maintenance.recover() or ActivityTask.objects.filter(worker=None), "the sweep")
    make_worker(queues=("elsewhere",))
    assert end(handle) == ["cancelled", 0]
    assert not Entry.objects.exists()


@QUEUES
def test_abandon_lets_the_activity_go_on(make_worker, cache, queue):
    make_worker()
    make_worker(queues=("elsewhere",))
    handle = cancel("abandon", "goes_to_its_end", queue)
    assert end(handle) == ["cancelled", 0]
    Entry.objects.create(kind="go", key="k")
    wait_for(lambda: Entry.objects.filter(kind="ended"), "the activity to end")
    assert "ActivityCancelRequested" not in [one.type for one in handle.history()]


@QUEUES
def test_try_is_the_default_and_does_not_wait(make_worker, queue):
    make_worker()
    make_worker(queues=("elsewhere",))
    handle = cancel("try", "until_cancelled", queue)
    wait_for(lambda: Entry.objects.filter(kind="cancelled"), "the activity to learn it")
    assert end(handle)[0] == "cancelled"


def test_what_was_asked_to_stop_and_runs_out_of_time_is_not_tried_again(worker):
    handle = cancel("wait", "deaf")
    assert end(handle) == ["cancelled", 0]
    [failed] = [one for one in handle.history() if one.type == "ActivityFailed"]
    assert failed.data["timeout"] == "start_to_close"
    assert Entry.objects.filter(kind="begun").count() == 1
    Entry.objects.create(kind="go", key="k")
    wait_for(lambda: worker._slots.taken() == 0, "the thread to end")
