"""What Django promises of a backend of tasks, kept by ours; and what it leaves open."""

from __future__ import annotations

import sys
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_durable import PayloadError, UnknownDefinition, WorkflowCancelled, WorkflowTerminated, durable
from django_durable.contrib.tasks import DurableBackend, DurableTask
from django_durable.contrib.tasks.interface import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_started,
)
from django_durable.models import WorkflowRun
from tests.flows import tasks, workflows

pytestmark = pytest.mark.django_db

READY, RUNNING, FAILED, SUCCESSFUL = (
    TaskResultStatus.READY,
    TaskResultStatus.RUNNING,
    TaskResultStatus.FAILED,
    TaskResultStatus.SUCCESSFUL,
)


@pytest.fixture
def backend():
    return task_backends["durable"]


# Capabilities


def test_it_can_do_all_that_django_knows_of(backend):
    assert isinstance(backend, DurableBackend)
    assert type(tasks.add) is backend.task_class is DurableTask
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority


def test_its_checks_find_nothing_to_complain_about(backend):
    assert list(backend.check()) == []


# Enqueueing


def test_a_task_that_was_enqueued_is_ready(backend):
    result = tasks.add.enqueue(1, b=2)
    assert (result.status, result.args, result.kwargs, result.backend) == (READY, [1], {"b": 2}, "durable")
    assert (result.started_at, result.finished_at, result.last_attempted_at) == (None, None, None)
    assert (result.errors, result.worker_ids, result.attempts, result.is_finished) == ([], [], 0, False)
    assert result.enqueued_at <= timezone.now()
    assert result.task is tasks.add
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value


def test_its_id_is_that_of_its_run():
    result = tasks.add.enqueue(1, 2)
    run = WorkflowRun.objects.get(pk=result.id)
    assert (run.name, run.label, run.queue, run.priority) == ("durable.task", "tests.flows.tasks.add", "default", 0)


@pytest.mark.postgres
@pytest.mark.parametrize("number", [1, 100])
def test_enqueueing_is_one_statement(backend, number):
    with CaptureQueriesContext(connection) as seen:
        backend.enqueue_many([(tasks.add, (1, 2), {})] * number)
    statements = [query["sql"] for query in seen if "SAVEPOINT" not in query["sql"]]
    assert len(statements) == 1


def test_async_code_enqueues_and_asks():
    async def talk() -> None:
        result = await tasks.shout.aenqueue("hello")
        again = await tasks.shout.aget_result(result.id)
        assert (again.id, again.status, again.task) == (result.id, READY, tasks.shout)
        await result.arefresh()
        assert result.status == READY

    async_to_sync(talk)()


def test_queue_and_priority_are_those_of_the_run():
    result = tasks.add.using(queue_name="mail", priority=-7).enqueue(1, 2)
    run = WorkflowRun.objects.get(pk=result.id)
    assert (run.queue, run.priority) == ("mail", -7)
    again = tasks.add.get_result(result.id)
    assert (again.task.queue_name, again.task.priority, again.task.func) == ("mail", -7, tasks.add.func)


@pytest.mark.parametrize("changes", [{"priority": 101}, {"priority": -101}, {"priority": 1.5}, {"queue_name": "other"}])
def test_what_django_refuses_is_refused(changes):
    with pytest.raises(InvalidTask):
        tasks.add.using(**changes)


def test_what_could_not_be_called_is_refused():
    def nested() -> None: ...

    with pytest.raises(InvalidTask, match="module level"):
        replace(tasks.add, func=nested)
    with pytest.raises(InvalidTask, match="first argument of 'context'"):
        replace(tasks.add, takes_context=True)


def test_a_task_under_another_name_than_its_functions_is_refused():
    with pytest.raises(InvalidTask, match="Workers could not find"):
        tasks.renamed.enqueue()
    assert not WorkflowRun.objects.exists()


@pytest.mark.parametrize(
    ("value", "error"),
    [({1, 2}, TypeError), (object(), TypeError), (b"\xff", ValueError), (float("nan"), PayloadError)],
    ids=["set", "object", "bytes", "nan"],
)
def test_an_argument_that_json_cannot_hold_is_refused_before_anything_is_written(value, error):
    with pytest.raises(error):
        tasks.echo.enqueue(value)
    assert not WorkflowRun.objects.exists()


def test_arguments_arrive_as_json_has_them(env):
    result = tasks.echo.enqueue((1, 2), b"bytes", {"deep": [None, True, 1.5]}, name="ä")
    assert result.args == [[1, 2], "bytes", {"deep": [None, True, 1.5]}]
    env.run_until_idle()
    result.refresh()
    assert result.return_value == [[[1, 2], "bytes", {"deep": [None, True, 1.5]}], {"name": "ä"}]


def test_arguments_that_do_not_fit_the_function_fail_the_task(env):
    result = tasks.add.enqueue(1)
    env.run_until_idle()
    result.refresh()
    assert (result.status, result.errors[0].exception_class) == (FAILED, TypeError)


def test_enqueueing_is_part_of_the_callers_transaction(env):
    with transaction.atomic():
        lost = tasks.note.enqueue("lost")
        transaction.set_rollback(True)
    with transaction.atomic():
        kept = tasks.note.enqueue("kept")
    env.run_until_idle()
    kept.refresh()
    assert kept.status == SUCCESSFUL
    with pytest.raises(TaskResultDoesNotExist):
        lost.refresh()


def test_many_are_enqueued_at_once(backend, env, told):
    results = backend.enqueue_many(
        [(tasks.add, (number, 1), {}) for number in range(20)] + [(tasks.shout, [], {"word": "x"})]
    )
    assert [name for name, _ in told] == ["enqueued"] * 21
    env.run_until_idle()
    for result in results:
        result.refresh()
    assert [result.return_value for result in results[:20]] == list(range(1, 21))
    assert results[20].return_value[0] == "X"


def test_of_many_all_or_none_are_enqueued(backend):
    with pytest.raises(TypeError):
        backend.enqueue_many([(tasks.echo, (1,), {}), (tasks.echo, ({1},), {})])
    assert not WorkflowRun.objects.exists()


# Results


def test_a_success(env):
    result = tasks.add.enqueue(40, 2)
    env.run_until_idle()
    again = tasks.add.get_result(result.id)
    assert (again.status, again.return_value, again.is_finished, again.attempts) == (SUCCESSFUL, 42, True, 1)
    assert all(again.worker_ids)
    assert again.errors == []
    assert None not in (again.enqueued_at, again.started_at, again.last_attempted_at, again.finished_at)
    result.refresh()
    assert (result.status, result.return_value, result.worker_ids) == (SUCCESSFUL, 42, again.worker_ids)


@pytest.mark.parametrize("task", [tasks.decline, tasks.decline_async], ids=["def", "async def"])
def test_a_failure(env, task):
    result = task.enqueue("no money")
    env.run_until_idle()
    result.refresh()
    assert (result.status, result.attempts, result.is_finished) == (FAILED, 1, True)
    (error,) = result.errors
    assert error.exception_class is tasks.Declined
    assert "no money" in error.traceback
    assert error.traceback.startswith("Traceback (most recent call last):")
    assert "call_task" not in error.traceback
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value


def test_a_task_that_would_end_the_process_fails(env):
    result = tasks.leave.enqueue()
    env.run_until_idle()
    result.refresh()
    assert (result.status, result.errors[0].exception_class) == (FAILED, SystemExit)


@pytest.mark.parametrize(("what", "error"), [("set", TypeError), ("nan", PayloadError)])
def test_a_return_value_that_json_cannot_hold_fails_the_task(env, what, error):
    result = tasks.give.enqueue(what)
    env.run_until_idle()
    result.refresh()
    assert (result.status, result.errors[0].exception_class) == (FAILED, error)


@pytest.mark.parametrize(("what", "value"), [("bytes", "text"), ("tuple", [1, 2])])
def test_a_return_value_is_what_json_makes_of_it(env, what, value):
    result = tasks.give.enqueue(what)
    env.run_until_idle()
    result.refresh()
    assert result.return_value == value


def test_a_result_cannot_come_later_by_a_token(env):
    result = tasks.promise.enqueue()
    env.run_until_idle()
    result.refresh()
    assert (result.status, result.attempts) == (FAILED, 1)


def test_the_context_tells_of_the_attempt(env):
    result, other = tasks.tell.enqueue("word"), tasks.tell_async.enqueue()
    env.run_until_idle()
    result.refresh()
    other.refresh()
    assert result.return_value == [1, result.id, ["word"], "RUNNING", "word"]
    assert other.return_value == 1


@pytest.mark.parametrize("id", ["", "no-id", str(uuid.UUID(int=1)), None, 7], ids=repr)
def test_there_is_no_such_result(backend, id):
    with pytest.raises(TaskResultDoesNotExist):
        backend.get_result(id)


def test_other_runs_are_no_results(backend):
    handle = durable.start_workflow(workflows.echo, 1)
    with pytest.raises(TaskResultDoesNotExist):
        backend.get_result(str(handle.run_id))


def test_the_result_of_another_task_is_a_mismatch():
    result = tasks.add.enqueue(1, 2)
    with pytest.raises(Exception, match="does not match"):
        tasks.echo.get_result(result.id)


@pytest.mark.parametrize(
    ("end", "error"),
    [(durable.cancel_workflow, WorkflowCancelled), (durable.terminate_workflow, WorkflowTerminated)],
    ids=["cancelled", "terminated"],
)
def test_a_task_that_somebody_has_ended_has_failed(env, end, error):
    result = tasks.add.using(run_after=timezone.now() + timedelta(days=1)).enqueue(1, 2)
    end(result.id, "not any more")
    env.run_until_idle()
    result.refresh()
    assert (result.status, result.attempts, result.errors[0].exception_class) == (FAILED, 0, error)
    assert "not any more" in result.errors[0].traceback


# Later


def test_run_after_is_when_the_run_begins(env):
    result = tasks.add.using(run_after=env.now() + timedelta(hours=1)).enqueue(1, 2)
    env.advance(timedelta(minutes=59))
    result.refresh()
    assert result.status == READY
    assert tasks.add.get_result(result.id).task.run_after == result.task.run_after
    env.advance(timedelta(minutes=2))
    result.refresh()
    assert result.status == SUCCESSFUL


def test_a_naive_time_is_refused():
    with pytest.raises(InvalidTask, match="aware"):
        tasks.add.using(run_after=timezone.now().replace(tzinfo=None))


def test_without_time_zones_times_are_those_of_the_project(env, settings):
    settings.USE_TZ, settings.TIME_ZONE = False, "Asia/Tokyo"
    result = tasks.add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(1, 2)
    assert tasks.add.get_result(result.id).task.run_after == result.task.run_after
    env.advance(timedelta(minutes=59))
    result.refresh()
    assert result.status == READY
    env.advance(timedelta(minutes=2))
    result.refresh()
    assert result.status == SUCCESSFUL
    assert all(timezone.is_naive(at) for at in (result.enqueued_at, result.started_at, result.finished_at))
    assert abs(result.enqueued_at - timezone.now()) < timedelta(hours=8)


# Signals


def test_signals_tell_of_a_success(env, told):
    result = tasks.add.enqueue(1, 2)
    assert [(name, about.id) for name, about in told] == [("enqueued", result.id)]
    env.run_until_idle()
    assert [name for name, _ in told] == ["enqueued", "started", "finished"]
    started, finished = told[1][1], told[2][1]
    assert started is finished
    assert (finished.id, finished.status, finished.return_value) == (result.id, SUCCESSFUL, 3)


@pytest.mark.parametrize("task", [tasks.decline, tasks.decline_async], ids=["def", "async def"])
def test_signals_tell_of_a_failure(env, told, task):
    task.enqueue("no")
    env.run_until_idle()
    assert [name for name, _ in told] == ["enqueued", "started", "finished"]
    assert (told[2][1].status, told[2][1].errors[0].exception_class) == (FAILED, tasks.Declined)


def test_a_retry_is_no_end(env, told):
    tasks.succeed_at.enqueue(2)
    env.advance(timedelta(seconds=5))
    assert [name for name, _ in told] == ["enqueued", "started", "started", "finished"]


def test_a_receiver_that_raises_does_not_fail_the_task(env, told):
    def receive(**_: object) -> None:
        raise ValueError("the receiver's own")

    task_started.connect(receive)
    try:
        result = tasks.add.enqueue(1, 2)
        env.run_until_idle()
    finally:
        task_started.disconnect(receive)
    result.refresh()
    assert result.status == SUCCESSFUL


# Which task it is


@pytest.mark.parametrize("path", ["os.system", "tests.flows.tasks.no_task", "tests.flows.tasks", "antigravity.geohash"])
def test_a_path_out_of_a_row_imports_nothing_and_leads_to_no_plain_function(backend, path):
    result = tasks.add.enqueue(1, 2)
    stored = WorkflowRun.objects.get(pk=result.id).input
    WorkflowRun.objects.update(input=stored.replace("tests.flows.tasks.add", path))
    with pytest.raises(UnknownDefinition, match="No task is called"):
        backend.get_result(result.id)
    assert "antigravity" not in sys.modules


def test_a_task_that_no_worker_has_waits_for_one_that_has(env, monkeypatch):
    result = tasks.add.enqueue(1, 2)
    with monkeypatch.context() as gone:
        gone.delattr(tasks, "add")
        env.run_until_idle()
    result.refresh()
    assert (result.status, WorkflowRun.objects.get(pk=result.id).status) == (READY, "blocked")
    env.advance(timedelta(minutes=1))
    result.refresh()
    assert (result.status, result.return_value) == (SUCCESSFUL, 3)
