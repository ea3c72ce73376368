"""What waits in each queue, as gauges. Read from the database, so it is the same wherever it is asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from django_durable import conf
from django_durable.contrib.metrics.instruments import MOST_NAMES
from django_durable.store import backlog

GAUGES = (
    ("durable_queue_runs_due", "Runs that a worker could take now.", "runs_due"),
    ("durable_queue_activities_due", "Activities that a worker could take now.", "activities_due"),
    ("durable_queue_depth", "Runs and activities that a worker could take now.", "depth"),
    (
        "durable_queue_oldest_age_seconds",
        "For how long the first of them has been due; 0: nothing is.",
        "oldest_seconds",
    ),
    ("durable_queue_runs_owned", "Runs that workers have in hand.", "runs_owned"),
    ("durable_queue_workers", "Live worker processes that serve the queue.", "workers"),
    ("durable_queue_paused", "1 while no worker takes anything from it.", "paused"),
)


class BacklogCollector(Collector):
    """Asks the database when it is asked, and not again for ``METRICS_CACHE_SECONDS``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: list[backlog.QueueBacklog] = []
        self._until = 0.0

    def collect(self) -> Iterator[Metric]:
        found = self._backlog()[:MOST_NAMES]
        for name, documentation, attribute in GAUGES:
            gauge = GaugeMetricFamily(name, documentation, labels=["queue"])
            for queue in found:
                gauge.add_metric([queue.name], getattr(queue, attribute) or 0)
            yield gauge

    def _backlog(self) -> list[backlog.QueueBacklog]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._read = backlog.read()
                self._until = time.monotonic() + conf.current().METRICS_CACHE_SECONDS
            return self._read

    def forget(self) -> None:
        """Ask the database at the next time."""
        self._until = 0.0


collector = BacklogCollector()
registry = CollectorRegistry()
registry.register(collector)
