"""Time limits that have passed where nobody who executes the activity has noticed: ended by whoever sweeps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec

from django_durable.client import messaging
from django_durable.definitions.activity import ActivityDefinition
from django_durable.exceptions import UnknownDefinition
from django_durable.history import messages
from django_durable.history.failures import Failure
from django_durable.models import ActivityTask
from django_durable.payloads import payload
from django_durable.store import clock, database, delivery, tasks
from django_durable.worker import attempts, reporting, task_rows, timeouts
from django_durable.worker.jobs import Job


def sweep() -> int:
    """End attempts and activities whose time is over, whoever has them; returns how many there were."""
    with database.sweeping():
        expired = tasks.expired()
        known = {task.pk for task in expired}
        unstarted = [task for task in tasks.unstarted() if task.pk not in known]
        known |= {task.pk for task in unstarted}
        overdue = [task for task in tasks.overdue() if task.pk not in known]
        ends = [
            *(_given_up(task, "schedule_to_close") for task in expired),
            *(_given_up(task, "schedule_to_start") for task in unstarted),
            *(end for task in overdue if (end := _failed_attempt(task)) is not None),
        ]
        busy, woken = delivery.deliver([report for report, _ in ends])
    for chain in woken:
        messaging.hint(chain)
    tell(ends, busy)
    return len(ends)


def report(task: ActivityTask, failure: Failure, **ending: Any) -> delivery.Report:
    """The end of an activity whose row a sweep has locked."""
    outcome = messages.ActivityResult(
        key=task.key, failure=failure, attempts=task.attempt - task.interruptions, **ending
    )
    outcome = messages.with_looks(outcome, tasks.looks_of(task.options))
    return delivery.Report(held=_held(task), outcome=outcome, settles=_is_atomic(task))


End = tuple[delivery.Report, Callable[[], None]]
"""What is written of an attempt's end, and what tells it once that is committed."""


def ended(task: ActivityTask, failure: Failure, **ending: Any) -> End:
    """The last failure of an activity whose row a sweep has locked."""
    return report(task, failure, **ending), partial(_tell, task, failure, None)


def tell(ends: Sequence[End], busy: Collection[tasks.Held]) -> None:
    """Once it is committed; those that were ``busy`` were left for the next sweep."""
    for report, telling in ends:
        if report.held not in busy:
            telling()


def _tell(task: ActivityTask, failure: Failure, delay: timedelta | None) -> None:
    definition = None if task.options == task_rows.CALLBACK else _definition(task)
    if definition is not None:
        reporting.tell(_job(task, definition), failure, delay)


def _given_up(task: ActivityTask, timeout: str) -> End:
    before = msgspec.json.decode(task.failure, type=Failure) if task.failure else None
    definition = _definition(task)
    limit = timeouts.limit_of(definition, timeout) if definition is not None else None
    return ended(task, timeouts.failure(task.name, timeout, limit, cause=before), timeout=timeout)


def _failed_attempt(task: ActivityTask) -> End | None:
    """None: only a worker that has the activity's code knows whether another attempt follows."""
    if task.options == task_rows.CALLBACK:
        return _unfulfilled(task)
    definition = _definition(task)
    if definition is None:
        return None
    timeout = "heartbeat" if _is_silent(task) else "start_to_close"
    failure = timeouts.failure(task.name, timeout, timeouts.limit_of(definition, timeout))
    delay = attempts.retry_delay(_job(task, definition), TimeoutError(failure.message))
    if delay is None:
        return ended(task, failure, timeout=timeout)
    if task.expires_at is not None and clock.read() + delay >= task.expires_at:
        limit = timeouts.limit_of(definition, timeouts.LAST)
        return ended(task, timeouts.failure(task.name, timeouts.LAST, limit, cause=failure), timeout=timeouts.LAST)
    again = delivery.Report(held=_held(task), delay=delay, failure=msgspec.json.encode(failure).decode())
    return again, partial(_tell, task, failure, delay)


def _unfulfilled(task: ActivityTask) -> End:
    timeout, limit = ("heartbeat", task.heartbeat) if _is_silent(task) else ("timeout", task.start_to_close)
    return ended(task, timeouts.failure(task.name, timeout, limit, kind="Callback"), timeout=timeout)


def _is_silent(task: ActivityTask) -> bool:
    """Whether it is the heartbeat that has not come in time: its deadline is before that of the attempt."""
    if task.heartbeat is None or task.deadline is None:
        return False
    return task.attempt_ends_at is None or task.deadline < task.attempt_ends_at


def _job(task: ActivityTask, definition: ActivityDefinition[Any, Any]) -> Job:
    return Job(
        definition=definition,
        input=payload.NULL,
        chain_id=task.chain_id,
        run_id=task.run_id,
        workflow_id=task.workflow_id,
        sequence=task.scheduled,
        key=task.key,
        worker=task.worker or tasks.NOBODY,
        queue=task.queue,
        attempt=task.attempt,
        interruptions=task.interruptions,
    )


def _held(task: ActivityTask) -> tasks.Held:
    return tasks.Held(task.chain_id, task.key, task.worker or tasks.NOBODY, task.attempt)


def _definition(task: ActivityTask) -> ActivityDefinition[Any, Any] | None:
    try:
        return task_rows.load_options(task.name, task.options)
    except UnknownDefinition:
        return None


def _is_atomic(task: ActivityTask) -> bool:
    if task.options == task_rows.CALLBACK:
        return False
    definition = _definition(task)
    return definition is None or definition.options.atomic
