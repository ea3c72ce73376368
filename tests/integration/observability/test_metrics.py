"""Metrics: what is counted, what is read from the database, and who serves it."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import CommandError
from django.test import Client
from django.urls import include, path
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from django_durable import durable, instrumentation
from django_durable.client import readiness
from django_durable.contrib.metrics import instruments, queues, serving
from django_durable.management.commands.durable_worker import serve_metrics
from django_durable.models import HistoryEvent
from django_durable.store import backlog
from example_project.processes import free_port
from tests.flows import workflows
from tests.integration.store import chains
from tests.integration.worker.running import DEADLINE, wait_for

urlpatterns = [path("metrics/durable/", include("django_durable.contrib.metrics.urls"))]

APPS = "django_durable.contrib.metrics"


@pytest.fixture
def counted() -> Iterator[Callable[..., float]]:
    """How much a metric has grown since the test began: ``counted("durable_runs_closed_total", status="failed")``."""
    instruments.connect()
    before = values(REGISTRY.collect())

    def grown(name: str, **labels: str) -> float:
        place = name, frozenset(labels.items())
        return values(REGISTRY.collect()).get(place, 0.0) - before.get(place, 0.0)

    yield grown
    instruments.disconnect()


def values(families: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    samples = [sample for family in families for sample in family.samples]
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


def parsed(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return values(text_string_to_metric_families(text))


def fetched(port: int, place: str = "/metrics") -> tuple[int, str]:
    """Status and text; 0: nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{place}", timeout=DEADLINE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_a_worker_counts_runs_attempts_and_commits(counted, worker):
    durable.start_workflow(workflows.call, "flows.fail_until", ["counted", 3]).result(timeout=DEADLINE)
    durable.start_workflow(workflows.catch, "flows.fail_for_good", ["no"]).result(timeout=DEADLINE)
    assert counted("durable_runs_started_total", queue="default") == 2
    assert counted("durable_runs_closed_total", workflow="flows.call", status="completed") == 1
    assert counted("durable_run_duration_seconds_count", workflow="flows.call") == 1
    assert counted("durable_activity_attempts_total", activity="flows.fail_until", outcome="retried") == 2
    assert counted("durable_activity_attempts_total", activity="flows.fail_until", outcome="completed") == 1
    assert counted("durable_activity_attempts_total", activity="flows.fail_for_good", outcome="failed") == 1
    assert counted("durable_activity_duration_seconds_count", activity="flows.fail_until") == 3
    assert counted("durable_activities_running", queue="default") == 0
    written = HistoryEvent.objects.exclude(type="RunStarted").count()  # which the start has written
    assert counted("durable_events_written_total") == written
    assert counted("durable_flush_duration_seconds_count") > 0


def test_names_beyond_a_limit_share_one_label(counted, monkeypatch):
    monkeypatch.setattr(instruments, "MOST_NAMES", 1)
    monkeypatch.setattr(instruments, "_queue", instruments.Names())
    for number in range(5):
        instrumentation.send(instrumentation.run_started, queue=f"made-up-{number}", count=1)
    assert counted("durable_runs_started_total", queue="made-up-0") == 1
    assert counted("durable_runs_started_total", queue=instruments.OTHERS) == 4


def test_no_metric_has_an_id_for_a_label():
    labels = {label for family in REGISTRY.collect() for sample in family.samples for label in sample.labels}
    assert not {label for label in labels if label.endswith("_id")}


@pytest.mark.urls(__name__)
def test_the_page_shows_what_waits_and_asks_the_database_once_in_a_while(configure, monkeypatch):
    configure(METRICS_CACHE_SECONDS=60.0)
    queues.collector.forget()
    chains.start(queue="mail")
    chains.start(queue="mail")
    reads, read = [], backlog.read

    def counting():
        reads.append(1)
        return read()

    monkeypatch.setattr(backlog, "read", counting)
    response = Client().get("/metrics/durable/")
    assert response["Content-Type"].startswith("text/plain; version=")
    found = parsed(response.content.decode())
    mail = frozenset({("queue", "mail")})
    assert found["durable_queue_depth", mail] == found["durable_queue_runs_due", mail] == 2
    assert found["durable_queue_oldest_age_seconds", mail] >= 0
    assert found["durable_queue_workers", mail] == 0
    for _ in range(3):
        Client().get("/metrics/durable/")
    assert len(reads) == 1
    assert Client().post("/metrics/durable/").status_code == 405
    queues.collector.forget()


def test_metrics_need_their_app_and_a_free_port(settings):
    with pytest.raises(CommandError, match="INSTALLED_APPS"):
        serve_metrics("9100")
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, APPS]
    port = free_port()
    try:
        serve_metrics(f"127.0.0.1:{port}")
        assert fetched(port)[0] == 200
        assert fetched(port, "/elsewhere")[0] == 404
        with pytest.raises(CommandError, match="in use"):
            serve_metrics(f"127.0.0.1:{port}")
        with pytest.raises(CommandError, match="cannot be served"):
            serve_metrics("nonsense")
    finally:
        instruments.disconnect()


def test_probes_over_http_tell_what_is_wrong(configure, tmp_path, monkeypatch):
    configure(HEALTH_DIRECTORY=str(tmp_path))
    assert serving.PROBES["/live"]() == ["no worker has made a step yet"]
    monkeypatch.setattr(readiness, "findings", lambda: [readiness.Finding(name="database", problem="x")])
    assert serving.PROBES["/ready"]() == ["database: x"]


@pytest.mark.slow
@pytest.mark.sqlite
def test_processes_on_one_port_serve_their_sum_and_one_takes_the_others_place(
    make_dying_worker, configure, tmp_path, monkeypatch
):
    configure(HEALTH_DIRECTORY=str(tmp_path / "health"))
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(shared))
    monkeypatch.setenv("DURABLE_TEST_APPS", APPS)
    port = free_port()
    first = make_dying_worker("never", "--metrics-port", f"127.0.0.1:{port}", queues="one")
    wait_for(lambda: fetched(port, "/live") == (200, "ok\n"), "the first to be alive")
    second = make_dying_worker("never", "--metrics-port", f"127.0.0.1:{port}", queues="two")
    for queue in ("one", "one", "two"):
        durable.start_workflow(workflows.echo.using(queue=queue), 1).result(timeout=DEADLINE)
    closed = "durable_runs_closed_total", frozenset({("workflow", "flows.echo"), ("status", "completed")})
    wait_for(lambda: parsed(fetched(port)[1]).get(closed) == 3.0, "the sum of both")
    assert not re.search(r'_id="', fetched(port)[1])
    first.kill()
    wait_for(lambda: fetched(port)[0] == 200, "the second to serve")
    assert parsed(fetched(port)[1])[closed] == 3.0
    assert fetched(port, "/ready") == (200, "ok\n")
    assert second.pid
