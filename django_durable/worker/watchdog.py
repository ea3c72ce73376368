"""Watches over the engine thread: workflow code that never awaits must not stop all other runs."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from django_durable.client.interrupting import Interrupter

if TYPE_CHECKING:
    from django_durable.worker.ownership import OwnedRun


class Watchdog(Interrupter["OwnedRun"]):
    """Knows which run's code the engine thread is in, and since when: ``with watchdog.watching(run): ...``."""

    def watching(self, run: OwnedRun) -> Self:
        """The block runs code of ``run``."""
        self.enter(run)
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()
