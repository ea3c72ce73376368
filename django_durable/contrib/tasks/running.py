"""How a worker runs tasks: each is a run of one workflow, which calls the task's function as an activity."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from traceback import format_exception
from typing import Any

from django.utils import timezone

from django_durable import durable
from django_durable.contrib.tasks import options
from django_durable.contrib.tasks.call import Call, Ended, change, local, options_of, result_of, task_of, workers
from django_durable.contrib.tasks.interface import (
    TaskContext,
    TaskError,
    TaskResultStatus,
    normalize_json,
    task_backends,
    task_finished,
    task_started,
)
from django_durable.definitions.activity import ActivityDefinition
from django_durable.engine.context import Context
from django_durable.exceptions import ActivityCancelled, ActivityCompletesLater, ApplicationError, RetryAfter
from django_durable.history import failures
from django_durable.payloads import codec
from django_durable.store import identifiers

TRACEBACK_LIMIT = 16_384  # characters, of which the end is kept

ASKED_TO_STOP = (ActivityCancelled, asyncio.CancelledError)


@durable.workflow(name="durable.task", on_error="block")
async def run_task(ctx: Context, call: Call) -> Ended:
    """A task that this process does not know blocks its run, until a worker comes that has been deployed with it."""
    task_of(call)
    ended: Ended = await ctx.activity(_activity_of(call), call)
    return ended


@durable.activity(name="durable.call_task", retry=options.ONCE)
def call_task(call: Call) -> Ended:
    attempt = Attempt(call)
    task_started.send_robust(sender=attempt.sender, task_result=attempt.result)
    try:
        attempt.succeed(attempt.task.call(*attempt.args, **attempt.kwargs))
    except ASKED_TO_STOP:
        raise
    except BaseException as error:  # SystemExit of a task must not end the worker
        attempt.fail(error)
        if attempt.is_final:
            task_finished.send_robust(sender=attempt.sender, task_result=attempt.result)
        raise attempt.failure(error) from error
    if attempt.is_final:
        task_finished.send_robust(sender=attempt.sender, task_result=attempt.result)
    return attempt.ended()


@durable.activity(name="durable.call_async_task", retry=options.ONCE)
async def call_async_task(call: Call) -> Ended:
    """As ``call_task``, on the event loop of the worker."""
    attempt = Attempt(call)
    await task_started.asend_robust(sender=attempt.sender, task_result=attempt.result)
    try:
        attempt.succeed(await attempt.task.acall(*attempt.args, **attempt.kwargs))
    except ASKED_TO_STOP:
        raise
    except BaseException as error:
        attempt.fail(error)
        if attempt.is_final:
            await task_finished.asend_robust(sender=attempt.sender, task_result=attempt.result)
        raise attempt.failure(error) from error
    if attempt.is_final:
        await task_finished.asend_robust(sender=attempt.sender, task_result=attempt.result)
    return attempt.ended()


def _activity_of(call: Call) -> ActivityDefinition[..., Any]:
    """Which kind of function it was is kept with the call, so that a replay asks for the same."""
    activity: ActivityDefinition[..., Any] = call_async_task if call.is_async else call_task
    asked = options_of(call)
    changes: dict[str, Any] = {}
    if call.priority:
        changes["priority"] = call.priority
    if asked is not options.DEFAULTS:
        # Whether an exception is worth another attempt is decided where the exception is: in Attempt.
        changes["retry"] = replace(asked.retry, retryable=(), non_retryable=())
        changes["start_to_close"], changes["at_most_once"] = asked.start_to_close, asked.at_most_once
    return activity.using(**changes) if changes else activity


class Attempt:
    """One call of a task's function. ``result`` is what signals and the task's context show of it."""

    def __init__(self, call: Call) -> None:
        self.task = task_of(call)
        self.sender = type(task_backends[call.backend])
        self.kwargs = call.kwargs
        self._call = call
        self._me = durable.current_activity()
        self._worker = identifiers.process_name()
        self._value: Any = None
        self._began = datetime.now(UTC)
        now = local(self._began)
        self.result = result_of(call, self.task, id=self._me.workflow_id)  # that of the chain's first run
        change(
            self.result,
            status=TaskResultStatus.RUNNING,
            started_at=now,
            last_attempted_at=now,
            worker_ids=workers(self._me.attempt, self._worker),
        )

    @property
    def args(self) -> list[Any]:
        """The positional arguments of the function."""
        return [TaskContext(task_result=self.result), *self._call.args] if self.task.takes_context else self._call.args

    def succeed(self, value: Any) -> None:
        """The function has returned. Raises for what cannot be stored: that is a failure of the task."""
        plain = normalize_json(value)
        codec.encode(plain, what=f"The result of task {self._call.path}")
        change(self.result, status=TaskResultStatus.SUCCESSFUL, finished_at=timezone.now(), _return_value=plain)
        self._value = plain

    def fail(self, error: BaseException) -> None:
        """The function has raised: the task has failed, or is ready for its next attempt."""
        kind = type(error)
        self.result.errors.append(
            TaskError(exception_class_path=f"{kind.__module__}.{kind.__qualname__}", traceback=_traceback_of(error))
        )
        if self._is_tried_again(error):
            change(self.result, status=TaskResultStatus.READY)
        else:
            change(self.result, status=TaskResultStatus.FAILED, finished_at=timezone.now())

    @property
    def is_final(self) -> bool:
        """Whether the task has ended with this attempt. Nobody waits for one that has passed its time limit."""
        return self.result.is_finished and not self._me.cancelled

    def ended(self) -> Ended:
        """What is stored of a success."""
        return Ended(value=self._value, attempt=self._me.attempt, worker=self._worker, at=self._began)

    def failure(self, error: BaseException) -> ApplicationError:
        """What is raised in the place of ``error``: it carries what a result shows of it."""
        told = failures.from_exception(error)
        (shown,) = self.result.errors
        data = {
            "exception": shown.exception_class_path,
            "traceback": shown.traceback,
            "attempt": self._me.attempt,
            "worker": self._worker,
            "at": self._began.isoformat(),
        }
        again = self._is_tried_again(error)
        if again and isinstance(error, RetryAfter):
            return RetryAfter(told.message, delay=error.delay, type=told.type, data=data)
        return ApplicationError(told.message, type=told.type, non_retryable=not again, data=data)

    def _is_tried_again(self, error: BaseException) -> bool:
        if isinstance(error, ActivityCompletesLater):
            return False
        return options_of(self._call).retry.allows(error, self._me.failed_attempts + 1)


def _traceback_of(error: BaseException) -> str:
    """As Django's own backends show it, without our frames, and such that every database can hold it."""
    own = error.__traceback__
    text = "".join(format_exception(type(error), error, own.tb_next if own is not None else None))
    clean = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= TRACEBACK_LIMIT else "… " + clean[-TRACEBACK_LIMIT:]
