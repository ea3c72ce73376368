"""Pages are run beside a real worker, in threads of the test's process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_durable.worker import pace
from django_durable.worker.worker import Worker

QUEUES = ("default", "mail", "imports")
PATIENCE = 40.0  # seconds


@pytest.fixture
def start_worker(
    settings: Any, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], None]]:
    """Starts the worker, once the definitions are there; at the test's end it stops, and must not have failed."""
    monkeypatch.setattr(pace, "PAUSED_SECONDS", 0.0)  # a page says "within about a second", its session does not wait
    settings.TASKS = {"default": {"BACKEND": "django_durable.contrib.tasks.DurableBackend"}}
    settings.DURABLE = {"TRANSPORTS": ("polling",), "POLL_SECONDS": 0.1, "LINGER_SECONDS": 0.05}
    workers: list[Worker] = []

    def start() -> None:
        workers.append(Worker(queues=QUEUES, concurrency=4))
        workers[-1].start()

    yield start
    for worker in workers:
        worker.stop()
        assert worker.join(PATIENCE), "the worker did not end"
        assert worker.exit_code == 0
