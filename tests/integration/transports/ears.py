"""Listeners that count how often they were to wake their worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django_durable import transports
from django_durable.transports.base import Listener
from django_durable.worker.worker import Worker
from tests.integration.worker.running import wait_for


class Ear:
    """What one listener has heard since it began to."""

    def __init__(self) -> None:
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1

    def wait(self, wakes: int = 1) -> None:
        """Return once it has been woken so many times."""
        wait_for(lambda: self.wakes >= wakes, f"wake-up {wakes}")


@contextmanager
def listening(*queues: str, worker: int = 1) -> Iterator[Ear]:
    """An ear for these queues and this worker, which hears by now and has been told nothing yet."""
    ear = Ear()
    [transport] = transports.all()
    listener = transport.listen(queues, worker, ear.wake)
    try:
        wait_until_heard(lambda: [listener])
        ear.wait()
        ear.wakes = 0
        yield ear
    finally:
        listener.close()


def wait_until_heard(listeners: Callable[[], list[Listener]]) -> None:
    wait_for(lambda: listeners() and all(one.hears for one in listeners()), "the listener to hear")


def wait_until_hears(worker: Worker) -> None:
    """Return once the worker's listener has shown that it hears."""
    wait_until_heard(lambda: worker._listeners)


def wait_until_deaf(worker: Worker) -> None:
    """Return once the worker's listener has noticed that it hears no more."""
    wait_for(lambda: not worker._listeners[0].hears, "the loss to be noticed")
