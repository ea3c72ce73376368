"""Tasks on real workers: where they run, in which order, again after a failure, again after a death."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from django_durable import ActivityError, Retry, durable
from django_durable.contrib.tasks.interface import TaskResultStatus, task_backends
from django_durable.models import ActivityTask
from tests.flows import tasks
from tests.flows.models import Entry
from tests.integration.worker.running import COMMITTING, DEADLINE, threads_left, wait_for

pytestmark = COMMITTING

READY, RUNNING, FAILED, SUCCESSFUL = (
    TaskResultStatus.READY,
    TaskResultStatus.RUNNING,
    TaskResultStatus.FAILED,
    TaskResultStatus.SUCCESSFUL,
)


def ended(result):
    """The result, once it is final."""

    def look():
        result.refresh()
        return result.is_finished

    wait_for(look, f"the end of {result}")
    return result


def becomes(result, status):
    def look():
        result.refresh()
        return result.status == status

    wait_for(look, f"{result} to be {status}")
    return result


# Where


def test_a_def_runs_in_a_thread_and_an_async_def_on_the_loop(worker):
    added, shouted = tasks.add.enqueue(1, 2), tasks.shout.enqueue("hello")
    assert ended(added).return_value == 3
    assert ended(shouted).return_value == ["HELLO", "durable-activity-loop"]
    assert added.worker_ids == shouted.worker_ids


def test_a_running_task_is_seen_to_run(worker, make_gate):
    gate = make_gate("seen")
    result = becomes(tasks.wait_at.enqueue("seen"), RUNNING)
    assert (result.attempts, result.finished_at, result.is_finished) == (1, None, False)
    assert None not in (result.started_at, result.last_attempted_at)
    (worker_id,) = result.worker_ids
    gate.set()
    assert ended(result).worker_ids == [worker_id]


def test_a_task_that_waits_for_a_slot_is_ready(make_worker, make_gate):
    make_worker(concurrency=1)
    gate = make_gate("busy")
    first = becomes(tasks.wait_at.enqueue("busy"), RUNNING)
    second = tasks.add.enqueue(1, 2)
    third = tasks.add.using(priority=5).enqueue(1, 2)
    second.refresh()
    assert (second.status, second.attempts) == (READY, 0)
    gate.set()
    for result in (first, second, third):
        assert ended(result).status == SUCCESSFUL


def test_of_those_that_wait_for_a_slot_the_higher_priority_comes_first(make_worker, make_gate):
    make_worker(concurrency=1)
    gate = make_gate("busy")
    results = [becomes(tasks.wait_at.enqueue("busy"), RUNNING)]
    for key, priority in (("low", -100), ("none", 0), ("high", 100)):
        results.append(tasks.note.using(priority=priority).enqueue(key))
    wait_for(lambda: ActivityTask.objects.count() == 3, "all to wait")
    gate.set()
    for result in results:
        ended(result)
    assert list(Entry.objects.order_by("pk").values_list("key", flat=True)) == ["high", "none", "low"]


def test_a_queue_has_its_own_workers(make_worker):
    make_worker(queues=("mail",))
    mailed, other = tasks.add.using(queue_name="mail").enqueue(1, 2), tasks.add.enqueue(3, 4)
    assert ended(mailed).return_value == 3
    other.refresh()
    assert other.status == READY
    make_worker()
    assert ended(other).return_value == 7


# Again after a failure


@pytest.mark.parametrize("task", [tasks.succeed_at, tasks.succeed_at_async], ids=["def", "async def"])
def test_it_is_tried_again_as_its_backend_says(worker, task):
    result = ended(task.enqueue(3))
    assert (result.status, result.return_value, result.attempts, result.errors) == (SUCCESSFUL, 3, 3, [])
    assert result.last_attempted_at >= result.started_at


def test_retries_come_to_an_end(worker, told):
    result = ended(tasks.succeed_at.enqueue(9))
    assert (result.status, result.attempts) == (FAILED, 3)
    (error,) = result.errors
    assert error.exception_class is tasks.Declined
    assert "attempt 3" in error.traceback
    assert [name for name, _ in told] == ["enqueued", "started", "started", "started", "finished"]


@pytest.mark.parametrize(("task", "error"), [(tasks.miss, "KeyError"), (tasks.give_up, "ApplicationError")])
def test_what_is_not_worth_another_attempt_gets_none(worker, task, error):
    result = ended(task.enqueue())
    assert (result.status, result.attempts, result.errors[0].exception_class.__name__) == (FAILED, 1, error)


def test_between_two_attempts_it_is_ready_and_shows_its_error(worker):
    result = tasks.come_back.enqueue()
    wait_for(lambda: ActivityTask.objects.filter(attempt=1, worker=None), "the retry")
    result.refresh()
    assert (result.status, result.attempts, result.is_finished) == (READY, 1, False)
    assert "in an hour" in result.errors[0].traceback
    ActivityTask.objects.update(due_at=timezone.now())
    assert ended(result).return_value == 2


def test_a_task_has_options_of_its_own(worker):
    patient = tasks.decline.using(retry=Retry(max_attempts=2, initial_interval=timedelta(milliseconds=5)))
    assert ended(patient.enqueue("twice")).attempts == 2
    assert ended(tasks.succeed_at.using(retry={"max_attempts": 1}).enqueue(2)).attempts == 1
    assert ended(tasks.decline.enqueue("once")).attempts == 1


def test_any_task_can_be_given_to_the_backend(worker):
    """One that was declared for another backend gets what the backend's OPTIONS say."""
    result = ended(tasks.decline.using(backend="patient").enqueue("thrice"))
    assert (result.backend, result.attempts) == ("patient", 3)


def test_a_time_limit_ends_the_attempt(worker, make_gate, told):
    gate = make_gate("late")
    result = ended(tasks.dawdle.using(start_to_close=0.1).enqueue("late"))
    assert (result.status, result.attempts, result.errors[0].exception_class) == (FAILED, 1, ActivityError)
    assert "start_to_close" in result.errors[0].traceback
    gate.set()
    worker.stop()
    assert worker.join(DEADLINE)
    wait_for(lambda: not threads_left(), "the attempt's own end")
    assert [name for name, _ in told] == ["enqueued", "started"]


def test_staff_let_a_failed_task_go_on_under_the_same_id(worker, monkeypatch):
    result = ended(tasks.take.enqueue("lamp"))
    assert (result.status, result.errors[0].exception_class) == (FAILED, KeyError)
    monkeypatch.setitem(tasks.stock, "lamp", 7)
    durable.get_workflow(result.id).retry_failed()
    assert becomes(result, SUCCESSFUL).return_value == 7
    assert (tasks.take.get_result(result.id).id, result.errors) == (result.id, [])


# Again after a death


@pytest.mark.slow
def test_a_task_whose_worker_dies_is_run_again_by_another_one(make_dying_worker, make_worker, configure):
    configure(LEASE_SECONDS=1.5)
    result = tasks.note.enqueue("k")
    make_dying_worker("running").wait_for_death()
    result.refresh()
    assert (result.status, result.attempts) == (RUNNING, 1)
    make_worker()
    assert ended(result).status == SUCCESSFUL
    assert result.attempts == 2
    assert list(Entry.objects.order_by("pk").values_list("attempt", flat=True)) == [1, 2]


@pytest.mark.slow
def test_a_task_that_must_not_run_twice_fails_with_its_worker(make_dying_worker, make_worker, configure):
    configure(LEASE_SECONDS=1.5)
    result = tasks.note.using(at_most_once=True).enqueue("k")
    make_dying_worker("running").wait_for_death()
    make_worker()
    assert (ended(result).status, result.attempts, result.errors[0].exception_class) == (FAILED, 1, ActivityError)
    assert Entry.objects.count() == 1


def test_aliases_share_the_workers(worker):
    assert {type(task_backends[alias]).__name__ for alias in ("durable", "patient")} == {"DurableBackend"}
    first, second = tasks.add.enqueue(1, 2), tasks.add.using(backend="patient").enqueue(3, 4)
    assert (ended(first).backend, ended(second).backend) == ("durable", "patient")
