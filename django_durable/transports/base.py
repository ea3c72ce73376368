"""What a wake-up transport is. Hints only: losing every one of them costs a poll interval and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Wake = Callable[[], None]


class Listener(Protocol):
    """A worker's ear. It calls the worker's ``wake`` from a thread of its own until it is closed."""

    @property
    def hears(self) -> bool:
        """Whether hints arrive, so that an idle worker may look at the database more rarely."""

    def close(self) -> None: ...


class Transport(Protocol):
    """Carries hints from whoever wrote something to the workers that may act on it."""

    def work(self, queue: str) -> None:
        """Something in ``queue`` is due. Called after the commit, in the writer's thread."""

    def message(self, worker: int) -> None:
        """A chain that ``worker`` owns has a message. Called after the commit."""

    def listen(self, queues: tuple[str, ...], worker: int, wake: Wake) -> Listener:
        """Call ``wake`` at each hint for these queues or this worker."""
