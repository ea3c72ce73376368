"""What follows from the end of an attempt: an input of its run, another attempt, or a report to another worker."""

from __future__ import annotations

import time
from datetime import timedelta

import msgspec

from django_durable import instrumentation
from django_durable.definitions.activity import THREAD
from django_durable.history import messages
from django_durable.history.failures import Failure
from django_durable.payloads import payload
from django_durable.store import delivery
from django_durable.worker import attempts, inputs, reporting, task_rows, timeouts
from django_durable.worker.executors import Slots
from django_durable.worker.holdings import Holdings
from django_durable.worker.jobs import Finished, Job
from django_durable.worker.ownership import Input, OwnedRun


class Results:
    """Turns finished attempts into what the engine writes next."""

    def __init__(self, worker: int, holdings: Holdings, slots: Slots) -> None:
        self._worker = worker
        self._holdings = holdings
        self._slots = slots
        self.count = 0  # attempts that have ended, for the progress line

    def take(self, finished: Finished) -> None:
        """An executor has reported the end of an attempt: its slot is free."""
        job = finished.job
        self.count += 1
        _tell_end(finished)
        self._holdings.jobs.discard(job)
        self._slots.give_back(kind=job.definition.executor)
        if job.timed_out:
            self._slots.lost -= int(job.definition.executor == THREAD)
        elif job.worker == self._worker:  # else it was begun under an id that has been declared dead
            self.conclude(finished)

    def time_out(self, job: Job, timeout: str) -> None:
        """An attempt has passed a time limit. A thread cannot be stopped: its slot stays taken until it ends."""
        if job not in self._holdings.jobs or job.timed_out:
            return
        stopping, job.timed_out = job.given_up, True
        self._slots.lost += int(job.definition.executor == THREAD)
        self._slots.give_up(job)
        before = msgspec.json.decode(job.failure, type=Failure) if job.failure and timeout == timeouts.LAST else None
        limit = timeouts.limit_of(job.definition, timeout)
        failure = timeouts.failure(job.definition.name, timeout, limit, cause=before)
        final = stopping or timeout == timeouts.LAST
        delay = None if final else attempts.retry_delay(job, TimeoutError(failure.message))
        self.conclude(Finished(job=job, failure=failure, retry_after=delay, timeout=timeout))

    def conclude(self, finished: Finished) -> None:
        """Hand an outcome to whoever waits for it."""
        job = finished.job
        if job.held is not None:
            self._holdings.freed.add(job.queue)
        run = self._holdings.run_of(job)
        if run is not None:
            run.running.pop(job.sequence, None)
            self._holdings.wake(run)
        if finished.lost and not job.given_up:
            return
        if finished.lost:  # it was given up before it began, or killed: whoever waits for that must hear of it
            finished = attempts.cancelled(job)
        if finished.later:
            if job.held is not None:
                self._holdings.reports[job.held] = delivery.Report(held=job.held, later=True)
            return
        if finished.retry_after is not None and _comes_too_late(job, finished.retry_after):
            finished = _out_of_time(finished)
        if finished.failure is not None and not finished.told and (job.timed_out or not job.given_up):
            reporting.tell(job, finished.failure, finished.retry_after)
        if finished.retry_after is not None:
            self._again(finished, run, finished.retry_after)
        elif run is not None and job.sequence in run.instance.activities:
            event = inputs.outcome(job.sequence, message_of(finished))
            run.inputs.append(
                Input(
                    event,
                    held=job.held,
                    settles=job.key if settles(finished) else None,
                    key=job.key,
                    looks=job.looks,
                )
            )
        elif job.held is not None:
            self._holdings.reports[job.held] = delivery.Report(
                held=job.held, outcome=message_of(finished), settles=settles(finished)
            )

    def _again(self, finished: Finished, run: OwnedRun | None, delay: timedelta) -> None:
        job = finished.job
        failure = msgspec.json.encode(finished.failure).decode()
        instrumentation.send(
            instrumentation.activity_retried,
            workflow_id=job.workflow_id,
            run_id=job.run_id,
            name=job.definition.name,
            attempt=job.attempt,
            error=finished.failure,
            delay=delay,
        )
        if job.held is not None:
            self._holdings.reports[job.held] = delivery.Report(
                held=job.held,
                delay=delay,
                failure=failure,
                details=payload.dump(job.details) if job.details is not None else None,
            )
        elif run is not None and job.sequence in run.instance.activities:
            run.side.append(task_rows.task_of(job, run.claimed, delay=delay, failure=failure))


def _tell_end(finished: Finished) -> None:
    job = finished.job
    instrumentation.send(
        instrumentation.activity_ended,
        workflow_id=job.workflow_id,
        run_id=job.run_id,
        name=job.definition.name,
        attempt=job.attempt,
        queue=job.queue,
        seconds=time.monotonic() - job.started,
        outcome=_outcome(finished),
    )


def _outcome(finished: Finished) -> str:
    job = finished.job
    if job.timed_out:
        return "timed_out"
    if finished.later:
        return "later"
    if job.given_up:
        return "cancelled"
    if finished.lost:
        return "lost"
    if finished.failure is None:
        return "completed"
    return "failed" if finished.retry_after is None else "retried"


def _comes_too_late(job: Job, delay: timedelta) -> bool:
    """Whether another attempt would only begin when schedule_to_close has passed."""
    return job.expires is not None and time.monotonic() + delay.total_seconds() >= job.expires


def _out_of_time(finished: Finished) -> Finished:
    job = finished.job
    limit = timeouts.limit_of(job.definition, timeouts.LAST)
    failure = timeouts.failure(job.definition.name, timeouts.LAST, limit, cause=finished.failure)
    return Finished(job=job, failure=failure, timeout=timeouts.LAST)


def message_of(finished: Finished) -> messages.ActivityResult:
    """The final outcome of an attempt as the message that tells its run."""
    return messages.ActivityResult(
        key=finished.job.key,
        result=finished.result,
        failure=finished.failure,
        attempts=finished.job.failures,
        timeout=finished.timeout,
        looks=finished.job.looks,
        interrupted=finished.interrupted,
    )


def settles(finished: Finished) -> bool:
    """Whether this outcome decides against an atomic activity that might yet succeed elsewhere."""
    return finished.failure is not None and finished.job.definition.options.atomic
