"""A worker of a crew, as ``durable_worker --processes`` has started it: obeys, and tells how it is doing."""

from __future__ import annotations

import os
import threading

from django_durable.worker import wire
from django_durable.worker.worker import Worker

REPORT_SECONDS = 0.5
VARIABLE = "DURABLE_CREW_MEMBER"  # in the environment of a process that a crew starts


def is_this() -> bool:
    """Whether a crew has started this process. What this process starts is no member any more."""
    return os.environ.pop(VARIABLE, "") == "true"


class Member:
    """Between a worker and the process that has started it. When that is gone, however it ended, the worker drains."""

    def __init__(self, worker: Worker, pipe: wire.Pipe) -> None:
        self._worker = worker
        self._pipe = pipe
        self._forced = threading.Event()

    def serve(self) -> bool:
        """Until the worker has ended. False: it was forced to."""
        threading.Thread(target=self._obey, name="durable-orders", daemon=True).start()
        while not self._worker.join(REPORT_SECONDS) and not self._forced.is_set():
            try:
                self._pipe.send(self._worker.report())
            except OSError:  # nobody listens any more, which the other thread learns as well
                self._forced.wait(REPORT_SECONDS)
        return not self._forced.is_set()

    def _obey(self) -> None:
        while (order := self._pipe.receive()) is not None:
            if isinstance(order, wire.Force):
                self._worker.force_stop()
                self._forced.set()
            elif isinstance(order, wire.Drain):
                self._worker.stop()
        self._worker.stop()
