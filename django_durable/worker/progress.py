"""One line on a terminal that tells how a worker, or a crew of them, is doing."""

from __future__ import annotations

import time
from typing import Any, Protocol

from django_durable.worker.wire import Report


class Reporter(Protocol):
    """Whose progress is shown."""

    def report(self) -> Report: ...

    def title(self) -> str: ...


class ProgressLine:
    """Rewrites its line about once a second."""

    def __init__(self, reporter: Reporter, stream: Any) -> None:
        self._reporter = reporter
        self._stream = stream
        self._at = time.monotonic()
        self._before = Report()

    def update(self) -> None:
        now = time.monotonic()
        if now - self._at < 1.0:
            return
        report = self._reporter.report()
        seconds = now - self._at
        events = (report.events - self._before.events) / seconds
        activities = (report.activities - self._before.activities) / seconds
        self._at, self._before = now, report
        self._stream.write(
            f"\r{self._reporter.title()}{report.runs} runs, {report.jobs} activities in hand, "
            f"{events:.0f} events/s, {activities:.0f} activities/s\x1b[K",
            ending="",
        )
        self._stream.flush()
