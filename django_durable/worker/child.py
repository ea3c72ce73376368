"""The other side of ``worker.processes``: executes one attempt after the other, as its worker asks."""

from __future__ import annotations

import os
import queue
import signal
import threading
from typing import Any

from django.db import connections

from django_durable.store import tasks
from django_durable.worker import attempts, task_rows, wire
from django_durable.worker.jobs import Finished, Job

ORPHANED = 1  # exit code if the worker is gone while an activity runs


class Child:
    """The main thread executes; another one listens, so that the activity learns what the worker has to say."""

    def __init__(self, pipe: wire.Pipe) -> None:
        self._pipe = pipe
        self._requests: queue.SimpleQueue[wire.Run | None] = queue.SimpleQueue()
        self._heart = Heart(pipe)
        self._job: Job | None = None

    def serve(self) -> None:
        """Until the worker closes the pipe."""
        threading.Thread(target=self._listen, name="durable-listener", daemon=True).start()
        attempts.watch_connections()
        while (request := self._requests.get()) is not None:
            self._pipe.send(_done(self._execute(request)))

    def _listen(self) -> None:
        while (message := self._pipe.receive()) is not None:
            if isinstance(message, wire.Run):
                self._requests.put(message)
            elif isinstance(message, wire.Row):
                self._heart.answers.put(message.there)
            elif isinstance(message, wire.Stop) and self._job is not None:
                self._job.stopping = True
        if self._job is not None:  # nobody is left to take the result, and its next attempt begins elsewhere
            os._exit(ORPHANED)
        self._requests.put(None)

    def _execute(self, request: wire.Run) -> Finished:
        _use_databases(request.databases)
        job = Job(
            definition=task_rows.load_options(request.name, request.options),
            input=request.input,
            chain_id=request.chain_id,
            run_id=request.run_id,
            workflow_id=request.workflow_id,
            sequence=request.sequence,
            key=request.key,
            worker=0,
            queue=request.queue,
            attempt=request.attempt,
            interruptions=request.interruptions,
            headers=request.headers,
            last_details=request.last_details,
            stopping=request.stopping,
        )
        job.pulse = self._heart
        if request.has_row:
            self._heart.found_row(job)
        self._job = job
        try:
            return attempts.execute(job)
        finally:
            self._job = None


class Heart:
    """Hands heartbeats on to the worker, which writes them."""

    def __init__(self, pipe: wire.Pipe) -> None:
        self.answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._pipe = pipe

    def beat(self, job: Job) -> None:
        self._pipe.send(wire.Beat(details=job.details))

    def open(self, job: Job) -> None:
        """Have the worker give the attempt a row, and wait for that."""
        self._pipe.send(wire.Open())
        if self.answers.get():
            self.found_row(job)

    def found_row(self, job: Job) -> None:
        """Whose it is the worker knows; here it only matters that there is one."""
        job.held = tasks.Held(job.chain_id, job.key, job.worker, job.attempt)


def main() -> None:
    """Serve the worker at the other end of this process's standard streams."""
    leave_signals_to_parent()
    with wire.over_standard_streams() as pipe:
        Child(pipe).serve()


def leave_signals_to_parent() -> None:
    """Signals are sent to the whole group of processes; the one that has started this one decides what they mean."""
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), _ignore)


def _ignore(number: int, frame: Any) -> None:
    """A function and not ``SIG_IGN``, which programs that an activity starts would inherit."""


def _use_databases(names: dict[str, str]) -> None:
    """A test's databases have other names than the settings say."""
    for alias, name in names.items():
        if alias in connections.settings and str(connections[alias].settings_dict["NAME"]) != name:
            connections[alias].close()
            connections[alias].settings_dict["NAME"] = name
            connections.settings[alias]["NAME"] = name


def _done(finished: Finished) -> wire.Done:
    again = finished.retry_after
    return wire.Done(
        result=finished.result,
        failure=finished.failure,
        retry_after=again.total_seconds() if again is not None else None,
        later=finished.later,
        told=finished.told,
    )
