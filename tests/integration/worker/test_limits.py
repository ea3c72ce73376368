"""The time limits of activities, and the heartbeats by which they live on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_durable import durable
from django_durable.models import ActivityTask, Dispatch
from django_durable.store import clock, tasks
from django_durable.worker import overdue
from tests.flows import lasting
from tests.flows.models import Entry
from tests.integration.worker.deaths import past_worker
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


@pytest.fixture(params=[0, 512], ids=["no cache", "cache"])
def cache(request, configure):
    configure(INSTANCE_CACHE_SIZE=request.param)


def failure_of(name, *args, **limits):
    handle = durable.start_workflow(lasting.within, f"flows.{name}", list(args), limits)
    failure = handle.result(timeout=DEADLINE)
    assert_invariants(handle)
    return failure


# Time limits


def test_what_nobody_begins_in_time_fails(worker, cache):
    assert failure_of("never_begun") == {
        "timeout": "schedule_to_start",
        "type": "TimeoutError",
        "attempts": 0,
        "cause": None,
    }
    assert not ActivityTask.objects.exists()


def test_what_begins_in_time_may_last(worker):
    assert failure_of("lasts", 0.5, schedule_to_start=0.2) == "lasted"


def test_all_attempts_together_may_not_last_longer_than_schedule_to_close(worker, cache):
    failure = failure_of("fails_for_ever", "k", schedule_to_close=0.6)
    assert (failure["timeout"], failure["type"]) == ("schedule_to_close", "TimeoutError")
    assert failure["attempts"] == Entry.objects.count() > 1
    assert "no answer for k" in failure["cause"]


def test_a_single_attempt_may_not_last_longer_than_schedule_to_close(worker):
    failure = failure_of("lasts", 30, schedule_to_close=0.3)
    assert (failure["timeout"], failure["attempts"]) == ("schedule_to_close", 1)


def test_what_lasts_too_long_says_why_the_attempt_before_has_failed(worker):
    failure = failure_of("fails_then_lasts", 30, schedule_to_close=1.5)
    assert (failure["timeout"], failure["attempts"]) == ("schedule_to_close", 2)
    assert failure["cause"] == "no answer at first"


def test_schedule_to_close_passes_also_for_what_nobody_executes(worker):
    handle = durable.start_workflow(lasting.within, "flows.never_begun", [], {"schedule_to_close": 0.1})
    failure = handle.result(timeout=DEADLINE)
    assert failure["timeout"] == "schedule_to_close"
    assert_invariants(handle)


def test_an_attempt_that_is_silent_fails(worker):
    failure = failure_of("silent", 30)
    assert (failure["timeout"], failure["attempts"]) == ("heartbeat", 1)


@pytest.mark.parametrize("name", ["beats", "beats_async"])
def test_an_attempt_that_beats_may_last(worker, name):
    assert failure_of(name, 1.2) > 5


@pytest.mark.parametrize("timeout", ["start_to_close", "heartbeat"])
def test_the_sweep_says_which_limit_of_a_silent_workers_attempt_has_passed(worker, timeout):
    handle = durable.start_workflow(lasting.gives_up, "flows.until_cancelled", "k", "elsewhere")
    task = wait_for(lambda: ActivityTask.objects.first(), "the task")
    past = clock.read() - timedelta(minutes=1)
    ActivityTask.objects.filter(pk=task.pk).update(
        worker=past_worker(dead=False, expired=False),
        attempt=1,
        heartbeat=timedelta(seconds=1),
        attempt_ends_at=past if timeout == "start_to_close" else past + timedelta(hours=1),
        deadline=past,
    )

    def failures():
        overdue.sweep()  # unless the worker's own was first
        return [one for one in handle.history() if one.type == "ActivityFailed"]

    [failed] = wait_for(failures, "the failure")
    assert failed.data["timeout"] == timeout


# Heartbeats


def test_the_next_attempt_reads_what_the_last_one_told(worker, cache):
    handle = durable.start_workflow(lasting.within, "flows.goes_on", [5])
    assert handle.result(timeout=DEADLINE) == [1, 1, 2, 2, 3]
    assert_invariants(handle)


def test_heartbeats_that_follow_each_other_closely_are_written_as_one(worker, monkeypatch):
    written = []
    beat = tasks.beat

    def counted(held, **told):
        written.append(told)
        beat(held, **told)

    monkeypatch.setattr(tasks, "beat", counted)
    count = durable.start_workflow(lasting.within, "flows.beats", [1.0, True]).result(timeout=DEADLINE)
    assert count > 100
    assert 2 <= len(written) < count / 3


def test_the_first_heartbeat_with_details_gives_a_local_activity_a_row(worker, cache):
    handle = durable.start_workflow(lasting.within, "flows.beats", [3.0, True])
    task = wait_for(lambda: ActivityTask.objects.filter(heartbeat_details__isnull=False).first(), "the row")
    assert (task.worker, task.attempt) == (worker.id, 1)
    wait_for(lambda: Dispatch.objects.filter(owner=None), "the run to be released while its activity goes on")
    assert handle.result(timeout=DEADLINE) > 5
    assert_invariants(handle)


# Cancellation


@pytest.mark.parametrize(
    ("name", "queue"),
    [("until_cancelled", None), ("until_cancelled", "elsewhere"), ("until_cancelled_async", None)],
    ids=["local", "remote", "async"],
)
def test_an_activity_that_is_given_up_learns_it(make_worker, name, queue):
    make_worker()
    if queue is not None:
        make_worker(queues=(queue,))
    handle = durable.start_workflow(lasting.gives_up, f"flows.{name}", "k", queue)
    wait_for(lambda: Entry.objects.filter(kind="begun"), "the activity to begin")
    handle.signal("enough")
    assert handle.result(timeout=DEADLINE) == "given up"
    wait_for(lambda: Entry.objects.filter(kind="cancelled"), "the activity to learn it")
    assert_invariants(handle)


def test_an_activity_that_somebody_else_has_taken_over_learns_it(make_worker):
    make_worker()
    make_worker(queues=("elsewhere",))
    durable.start_workflow(lasting.gives_up, "flows.until_cancelled", "k", "elsewhere")
    wait_for(lambda: Entry.objects.filter(kind="begun"), "the activity to begin")
    ActivityTask.objects.update(worker=past_worker(dead=False, expired=False))
    wait_for(lambda: Entry.objects.filter(kind="cancelled"), "the activity to learn it")
