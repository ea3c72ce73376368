"""What a process counts, from the signals of instrumentation. In prometheus_client's own registry, as is usual.

Labels are names that code gives: workflows, activities, queues, statuses. Never ids.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from django_durable import instrumentation

MOST_NAMES = 500
OTHERS = "(others)"
"""In the place of names beyond the first 500: a project that makes names up, for queues say, must not fill a server."""

SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LONG = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)

RUNS_STARTED = Counter("durable_runs_started", "Runs whose start has been committed here.", ["queue"])
RUNS_CLOSED = Counter("durable_runs_closed", "Runs that have ended.", ["workflow", "status"])
RUN_SECONDS = Histogram(
    "durable_run_duration_seconds",
    "From the first event of a run to its end.",
    ["workflow"],
    buckets=(*LONG, 86_400.0, 604_800.0),
)
RUNS_BLOCKED = Counter("durable_runs_blocked", "Runs that were parked until other code comes.", ["workflow"])
WORKFLOWS_STUCK = Counter("durable_workflows_stuck", "Times that workflow code kept the engine busy.", ["workflow"])
ATTEMPTS = Counter("durable_activity_attempts", "Attempts of activities that have ended.", ["activity", "outcome"])
ATTEMPT_SECONDS = Histogram(
    "durable_activity_duration_seconds", "How long attempts of activities took.", ["activity"], buckets=LONG
)
RUNNING = Gauge("durable_activities_running", "Attempts that are executed now.", ["queue"], multiprocess_mode="livesum")
FLUSH_SECONDS = Histogram("durable_flush_duration_seconds", "How long group commits took.", buckets=SHORT)
EVENTS = Counter("durable_events_written", "Events that group commits have written.")
LAG_SECONDS = Histogram(
    "durable_engine_lag_seconds", "How late an engine woke up, where that is above 50 ms.", buckets=SHORT[5:]
)
WORKERS_FENCED = Counter("durable_workers_fenced", "Times that a worker here found itself declared dead.")
WORKERS_DIED = Counter("durable_workers_died", "Other workers that one here has declared dead.")


class Names:
    """The values of one label, up to a limit."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        if name not in self._known:
            if len(self._known) >= MOST_NAMES:
                return OTHERS
            self._known.add(name)
        return name


_queue, _workflow, _activity = Names(), Names(), Names()


def _run_started(*, queue: str, count: int, **_: Any) -> None:
    RUNS_STARTED.labels(_queue(queue)).inc(count)


def _run_closed(*, name: str, status: str, started_at: Any, closed_at: Any, **_: Any) -> None:
    workflow = _workflow(name)
    RUNS_CLOSED.labels(workflow, str(status)).inc()
    if started_at is not None and closed_at is not None:
        RUN_SECONDS.labels(workflow).observe(max((closed_at - started_at).total_seconds(), 0.0))


def _run_blocked(*, name: str, **_: Any) -> None:
    RUNS_BLOCKED.labels(_workflow(name)).inc()


def _workflow_stuck(*, name: str, **_: Any) -> None:
    WORKFLOWS_STUCK.labels(_workflow(name)).inc()


def _activity_started(*, queue: str, **_: Any) -> None:
    RUNNING.labels(_queue(queue)).inc()


def _activity_ended(*, name: str, queue: str, seconds: float, outcome: str, **_: Any) -> None:
    RUNNING.labels(_queue(queue)).dec()
    activity = _activity(name)
    ATTEMPTS.labels(activity, outcome).inc()
    ATTEMPT_SECONDS.labels(activity).observe(seconds)


def _flush_done(*, events: int, seconds: float, **_: Any) -> None:
    FLUSH_SECONDS.observe(seconds)
    EVENTS.inc(events)


def _engine_lagging(*, seconds: float, **_: Any) -> None:
    LAG_SECONDS.observe(seconds)


def _worker_fenced(**_: Any) -> None:
    WORKERS_FENCED.inc()


def _worker_died(**_: Any) -> None:
    WORKERS_DIED.inc()


RECEIVERS = (
    (instrumentation.run_started, _run_started),
    (instrumentation.run_closed, _run_closed),
    (instrumentation.run_blocked, _run_blocked),
    (instrumentation.workflow_stuck, _workflow_stuck),
    (instrumentation.activity_started, _activity_started),
    (instrumentation.activity_ended, _activity_ended),
    (instrumentation.flush_done, _flush_done),
    (instrumentation.engine_lagging, _engine_lagging),
    (instrumentation.worker_fenced, _worker_fenced),
    (instrumentation.worker_died, _worker_died),
)


def connect() -> None:
    """Count from now on; once, however often it is called."""
    for signal, receiver in RECEIVERS:
        signal.connect(receiver, dispatch_uid=f"durable.metrics{receiver.__name__}")


def disconnect() -> None:
    """Count no more."""
    for signal, receiver in RECEIVERS:
        signal.disconnect(dispatch_uid=f"durable.metrics{receiver.__name__}")
