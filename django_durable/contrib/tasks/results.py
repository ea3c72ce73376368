"""Results of tasks, read from the tables. Django has four statuses; runs have more."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from django_durable import exceptions
from django_durable.client import reading
from django_durable.contrib.tasks import running
from django_durable.contrib.tasks.call import Call, Ended, change, local, result_of, task_of, workers
from django_durable.contrib.tasks.interface import AnyResult, TaskError, TaskResultDoesNotExist, TaskResultStatus
from django_durable.history.failures import Failure
from django_durable.history.status import CLOSED, Status
from django_durable.models import ActivityTask, Dispatch, Worker, WorkflowRun
from django_durable.payloads import payload
from django_durable.store import database, dispatch, runs, tasks

ENDS: dict[Status, type[Exception]] = {
    Status.CANCELLED: exceptions.WorkflowCancelled,
    Status.TERMINATED: exceptions.WorkflowTerminated,
    Status.TIMED_OUT: exceptions.WorkflowTimedOut,
}
"""What a task has failed with that somebody has ended from outside."""


def read(result_id: str) -> AnyResult:
    """How a task is. Raises ``TaskResultDoesNotExist``, and ``UnknownDefinition`` if this process has no such task."""
    run = _run(result_id)
    call: Call = running.run_task.decode_input(payload.load(run.input))[0][0]
    result = result_of(call, task_of(call), id=str(run.chain_id), enqueued_at=run.created_at)
    status = Status(run.status)
    if status is Status.COMPLETED:
        _show_success(result, run)
    elif status in CLOSED:
        _show_failure(result, run, status)
    else:
        _show_open(result, run)
    return result


def _run(result_id: str) -> WorkflowRun:
    """The latest run of the chain: staff may have let a failed task go on."""
    try:
        run = runs.latest_of_chain(UUID(result_id))
    except (ValueError, AttributeError, TypeError):
        run = None
    if run is None or run.name != running.run_task.name:
        raise TaskResultDoesNotExist(result_id)
    return run


def _show_success(result: AnyResult, run: WorkflowRun) -> None:
    ended: Ended = running.run_task.decode_result(payload.load(run.result or ""))
    _show(
        result,
        status=TaskResultStatus.SUCCESSFUL,
        started_at=run.started_at,
        last_attempted_at=ended.at,
        finished_at=run.closed_at,
        worker_ids=workers(ended.attempt, ended.worker),
        _return_value=ended.value,
    )


def _show_failure(result: AnyResult, run: WorkflowRun, status: Status) -> None:
    failure = reading.failure_of(run)
    _show(result, status=TaskResultStatus.FAILED, started_at=run.started_at, finished_at=run.closed_at)
    _show_attempt(result, failure)
    if not result.errors:
        _show_end_from_outside(result, run, failure, ENDS.get(status, exceptions.ActivityError))


def _show_end_from_outside(result: AnyResult, run: WorkflowRun, failure: Failure | None, kind: type[Exception]) -> None:
    """The task's code has left nothing: a time limit has passed, its process has died, somebody has ended it."""
    message = failure.message if failure is not None else ""
    result.errors.append(TaskError(exception_class_path=f"{kind.__module__}.{kind.__qualname__}", traceback=message))
    failed = [event.data for event in reading.history_of(run.pk) if event.type == "ActivityFailed"]
    if failed:
        _show(result, worker_ids=workers(max(failed[-1]["attempts"], 1), ""))


def _show_open(result: AnyResult, run: WorkflowRun) -> None:
    row = dispatch.rows().filter(pk=run.chain_id).first()
    if row is None or row.started_at is None:  # nobody has begun it, or it has ended since
        return
    task = tasks.rows().filter(chain_id=run.chain_id, run_id=run.pk).first()
    if task is not None:
        _show_task(result, row, task)
    elif row.owner is not None:
        _show_in_hand(result, row)


def _show_in_hand(result: AnyResult, row: Dispatch) -> None:
    """The worker that has the run calls the function by itself."""
    _show(
        result,
        status=TaskResultStatus.RUNNING,
        started_at=row.started_at,
        last_attempted_at=row.started_at,
        worker_ids=workers(1, _name_of(row.owner)),
    )


def _show_task(result: AnyResult, row: Dispatch, task: ActivityTask) -> None:
    """Any worker may call the function, or call it again."""
    if task.failure:
        _show_attempt(result, msgspec.json.decode(task.failure, type=Failure))
    if not task.attempt:
        return
    _show(result, started_at=row.started_at, worker_ids=workers(task.attempt, _name_of(task.worker)))
    if task.worker is not None:
        _show(result, status=TaskResultStatus.RUNNING, last_attempted_at=task.due_at)


def _show_attempt(result: AnyResult, failure: Failure | None) -> None:
    """What the attempt that has failed has left behind."""
    told = failure.data if failure is not None else None
    if not isinstance(told, dict) or "exception" not in told:
        return
    result.errors.append(TaskError(exception_class_path=told["exception"], traceback=told["traceback"]))
    _show(
        result,
        last_attempted_at=datetime.fromisoformat(told["at"]),
        worker_ids=workers(told["attempt"], told["worker"]),
    )


def _show(result: AnyResult, **values: Any) -> None:
    change(result, **{name: local(value) if isinstance(value, datetime) else value for name, value in values.items()})


def _name_of(worker: int | None) -> str:
    if worker is None:
        return ""
    return Worker.objects.using(database.alias()).filter(pk=worker).values_list("name", flat=True).first() or ""
