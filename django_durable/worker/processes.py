"""Activities in processes of their own: for what computes, and must not share an interpreter with the engine.

Each slot is a thread of the worker with one process, started at its first job and kept. The process is an interpreter
of its own, not a fork: it begins with nothing of the worker's but its settings.
"""

from __future__ import annotations

import subprocess
import threading
from datetime import timedelta

from django.db import connections

from django_durable.exceptions import DurableError
from django_durable.history import failures
from django_durable.worker import attempts, interpreters, task_rows, wire
from django_durable.worker.executors import Done, ThreadExecutor
from django_durable.worker.jobs import Finished, Job

LAST_WORDS = 5.0  # seconds that a process has to end after it was told to


class ProcessDied(DurableError):
    """The process of an activity ended before the activity did: killed, out of memory, or by a crash in C code."""


class ActivityProcess:
    """One process, as the thread sees it that has it."""

    def __init__(self) -> None:
        self._process = interpreters.start("durable_process", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.pipe = wire.Pipe(self._process.stdout, self._process.stdin)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End it now, whatever it does."""
        self._process.kill()

    def end(self) -> int:
        """Let it end, and wait for that; returns its exit code."""
        self.pipe.close()
        try:
            return self._process.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class Elsewhere:
    """Executes jobs in the process that belongs to the calling thread."""

    def __init__(self) -> None:
        self.running: dict[Job, ActivityProcess] = {}
        self._mine = threading.local()

    def begin(self) -> None:
        self._mine.process = None

    def refresh(self) -> None:
        """A process waits as long as it has to."""

    def rest(self) -> None:
        """It has nothing to do: its memory is worth more than the second that the next start takes."""
        if self._mine.process is not None:
            self._mine.process.end()
            self._mine.process = None

    def execute(self, job: Job) -> Finished:
        if job.given_up:
            return Finished(job=job, lost=True)
        try:
            process: ActivityProcess = self._mine.process or ActivityProcess()
        except (OSError, DurableError) as error:
            return attempts.failed(job, error)
        self._mine.process = self.running[job] = process
        try:
            if job.given_up:  # just before it could be killed
                return Finished(job=job, lost=True)
            return self._execute(job, process)
        finally:
            del self.running[job]

    def _execute(self, job: Job, process: ActivityProcess) -> Finished:
        try:
            process.pipe.send(_request(job))
            while (message := process.pipe.receive()) is not None:
                if isinstance(message, wire.Done):
                    return _finished(job, message)
                if isinstance(message, wire.Beat):
                    attempts.beat(job, message.details)
                elif isinstance(message, wire.Open):
                    process.pipe.send(wire.Row(_has_row(job)))
        except OSError:
            pass  # it is gone, as if it had said nothing
        self._mine.process = None
        return _died(job, process.end())


class ProcessExecutor(ThreadExecutor):
    """Up to ``capacity`` processes. To give a job up is to kill its process."""

    def __init__(self, capacity: int, done: Done) -> None:
        self._elsewhere = Elsewhere()
        super().__init__(capacity, done, runner=self._elsewhere, name="durable-process")

    def give_up(self, job: Job) -> None:
        super().give_up(job)
        process = self._elsewhere.running.get(job)
        if process is not None:
            process.kill()

    def announce_stop(self, job: Job) -> None:
        process = self._elsewhere.running.get(job)
        if process is not None:
            try:
                process.pipe.send(wire.Stop())
            except OSError:
                pass  # it has died, which its thread is about to notice

    def close(self) -> None:
        super().close()
        for process in list(self._elsewhere.running.values()):
            process.kill()


def _request(job: Job) -> wire.Run:
    return wire.Run(
        name=job.definition.registered_name,
        options=task_rows.dump_options(job.definition),
        input=job.input,
        workflow_id=job.workflow_id,
        run_id=job.run_id,
        chain_id=job.chain_id,
        key=job.key,
        sequence=job.sequence,
        queue=job.queue,
        attempt=job.attempt,
        interruptions=job.interruptions,
        headers=job.headers,
        last_details=job.last_details,
        stopping=job.stopping,
        has_row=job.held is not None,
        databases={alias: str(connections[alias].settings_dict["NAME"]) for alias in connections},
    )


def _has_row(job: Job) -> bool:
    if job.held is None and job.pulse is not None:
        job.pulse.open(job)
    return job.held is not None


def _finished(job: Job, done: wire.Done) -> Finished:
    again = timedelta(seconds=done.retry_after) if done.retry_after is not None else None
    return Finished(
        job=job, result=done.result, failure=done.failure, retry_after=again, later=done.later, told=done.told
    )


def _died(job: Job, code: int) -> Finished:
    if job.given_up:
        return Finished(job=job, lost=True)
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    error = ProcessDied(f"The process of activity {job.definition.name} {how} before the activity did.")
    if job.definition.options.at_most_once:
        return Finished(job=job, failure=failures.from_exception(error), interrupted=True)
    return attempts.failed(job, error)
