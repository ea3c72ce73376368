"""One line on a terminal that tells how a worker is doing."""

from __future__ import annotations

import time
from typing import Any

from django_durable.worker.worker import Worker


class ProgressLine:
    """Rewrites its line about once a second."""

    def __init__(self, worker: Worker, stream: Any) -> None:
        self._worker = worker
        self._stream = stream
        self._before = (time.monotonic(), 0, 0)

    def update(self) -> None:
        engine = self._worker.engine
        now = time.monotonic()
        before, events, activities = self._before
        if engine is None or now - before < 1.0:
            return
        rates = (engine.flushed - events) / (now - before), (engine.results.count - activities) / (now - before)
        self._before = (now, engine.flushed, engine.results.count)
        self._stream.write(
            f"\r{len(engine.holdings.owned)} runs, {len(engine.holdings.jobs)} activities in hand, "
            f"{rates[0]:.0f} events/s, {rates[1]:.0f} activities/s\x1b[K",
            ending="",
        )
        self._stream.flush()
