"""What the tests of the backend of ``django.tasks`` share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_durable.contrib.tasks import interface
from django_durable.testing import environment
from django_durable.testing.environments import Environment
from tests.integration.worker.gates import make_gate
from tests.integration.worker.processes import make_dying_worker
from tests.integration.worker.running import configure, make_worker, worker

__all__ = ["configure", "make_dying_worker", "make_gate", "make_worker", "worker"]

Told = list[tuple[str, interface.AnyResult]]


@pytest.fixture
def env(db: None) -> Iterator[Environment]:
    with environment() as one:
        yield one


@pytest.fixture
def told() -> Iterator[Told]:
    """Django's signals, in their order, each with its result as it was then: its status, and how many errors."""
    seen: Told = []
    signals = {
        "enqueued": interface.task_enqueued,
        "started": interface.task_started,
        "finished": interface.task_finished,
    }

    def listener(name: str):
        def receive(sender: type, task_result: interface.AnyResult, **_: object) -> None:
            seen.append((name, task_result))

        return receive

    listeners = {name: listener(name) for name in signals}
    for name, signal in signals.items():
        signal.connect(listeners[name])
    yield seen
    for name, signal in signals.items():
        signal.disconnect(listeners[name])
