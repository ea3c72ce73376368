"""Real workers in threads of the test's process, against the real test database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections

from django_durable.worker.worker import Worker

DEADLINE = 40.0  # seconds that anything may take on a loaded machine
STEP = 0.02

DURABLE = {"TRANSPORTS": ("polling",), "POLL_SECONDS": 0.1, "LINGER_SECONDS": 0.05, "DRAIN_SECONDS": 30.0}
"""Settings under which tests do not have to wait for pauses that are made for production."""

COMMITTING = pytest.mark.django_db(transaction=True)
"""Real transactions: a worker's threads see what a test has stored, and the other way round."""

MakeWorker = Callable[..., Worker]


@pytest.fixture(autouse=True)
def configure(settings: Any) -> Callable[..., None]:
    """Change ``DURABLE`` settings: ``configure(LEASE_SECONDS=1)``."""

    def change(**values: Any) -> None:
        settings.DURABLE = {**settings.DURABLE, **values}

    settings.DURABLE = dict(DURABLE)
    return change


@pytest.fixture
def make_worker(configure: Callable[..., None], transactional_db: None) -> Iterator[MakeWorker]:
    """Starts workers; at the test's end they are stopped, and none may have died of an error."""
    workers: dict[Worker, int] = {}

    def make(*, exit_code: int = 0, **options: Any) -> Worker:
        worker = Worker(**{"concurrency": 4, **options})
        workers[worker] = exit_code
        worker.start()
        return worker

    yield make
    for worker in workers:
        worker.stop()
    ended = [worker.join(DEADLINE) for worker in workers]
    wait_for(lambda: not threads_left(), "the worker's threads to end")
    assert all(ended), "a worker did not end"
    assert {worker: worker.exit_code for worker in workers} == workers, "an engine has died"


@pytest.fixture
def worker(make_worker: MakeWorker) -> Worker:
    """One worker with four slots."""
    return make_worker()


def threads_left() -> list[threading.Thread]:
    """Threads of workers that have not ended."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("durable-")]


def wait_for(condition: Callable[[], Any], what: str, *, timeout: float = DEADLINE) -> Any:
    """Wait until ``condition()`` is true and return its value; fail with ``what`` if that never comes."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain for {what}")
        time.sleep(STEP)


def in_thread(function: Callable[[], Any]) -> threading.Thread:
    """Begin ``function`` in a thread that closes its database connections at the end."""

    def run() -> None:
        try:
            function()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, name="test")
    thread.start()
    return thread
