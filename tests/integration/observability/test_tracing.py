"""One trace from a view through its workflow to the activities, whichever process has executed them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpRequest, JsonResponse
from django.test import Client
from django.urls import path
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from django_durable import durable
from django_durable.contrib.tracing import spans
from tests.flows import workflows
from tests.integration.worker.running import DEADLINE, wait_for

pytestmark = pytest.mark.urls(__name__)

EXPORTER = InMemorySpanExporter()


@pytest.fixture(scope="module", autouse=True)
def _provider() -> None:
    """There is one for each process; without an active span it changes nothing for other tests."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(provider)


@pytest.fixture(autouse=True)
def _spans() -> Iterator[None]:
    EXPORTER.clear()
    spans.connect()
    yield
    spans.disconnect()


def checkout(request: HttpRequest) -> JsonResponse:
    """With the span that instrumentation of Django makes for each request."""
    with trace.get_tracer("django").start_as_current_span("POST checkout", kind=SpanKind.SERVER):
        handle = durable.start_workflow(workflows.call, request.GET["activity"], json.loads(request.GET["arguments"]))
    return JsonResponse({"workflow_id": handle.workflow_id}, status=202)


urlpatterns = [path("checkout", checkout)]


def started(activity: str, *arguments: Any) -> Any:
    """The handle of a run that a view has started."""
    response = Client().post("/checkout", query_params={"activity": activity, "arguments": json.dumps(arguments)})
    return durable.get_workflow(response.json()["workflow_id"])


def named(name: str) -> list[Any]:
    return [span for span in EXPORTER.get_finished_spans() if span.name == name]


def one(name: str) -> Any:
    [span] = wait_for(lambda: named(name), f"the span {name!r}")
    return span


def test_the_spans_of_a_view_a_start_its_run_and_its_activities_are_one_trace(worker):
    handle = started("flows.fail_until", "traced", 2)
    assert handle.result(timeout=DEADLINE) == 2
    view, start, workflow = one("POST checkout"), one("start flows.call"), one("workflow flows.call")
    failed, done = wait_for(lambda: len(found := named("activity flows.fail_until")) == 2 and found, "both attempts")
    assert {span.context.trace_id for span in (view, start, workflow, failed, done)} == {view.context.trace_id}
    assert start.parent.span_id == view.context.span_id
    assert failed.parent.span_id == done.parent.span_id == workflow.parent.span_id == start.context.span_id
    assert (start.kind, failed.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert failed.attributes["durable.workflow.id"] == handle.workflow_id
    assert (failed.attributes["durable.activity.attempt"], done.attributes["durable.activity.attempt"]) == (1, 2)
    assert failed.status.status_code is StatusCode.ERROR
    [event] = failed.events
    assert event.attributes["exception.type"] == "ConnectionError"
    assert done.status.status_code is StatusCode.UNSET
    assert workflow.start_time <= done.start_time <= done.end_time <= workflow.end_time + 1_000_000_000


def test_a_run_that_fails_says_so_in_its_span(worker):
    durable.start_workflow(workflows.fail, "on purpose").status()
    span = one("workflow flows.fail")
    assert span.status.status_code is StatusCode.ERROR
    assert "on purpose" in span.status.description
    assert span.attributes["durable.run.status"] == "failed"


@pytest.mark.parametrize("activity", ["flows.record_once", "flows.record_async"])
def test_every_kind_of_activity_has_its_span(worker, activity):
    arguments = ["atomic", "k"] if activity == "flows.record_once" else ["k"]
    started(activity, *arguments).result(timeout=DEADLINE)
    assert one(f"activity {activity}").context.trace_id == one("POST checkout").context.trace_id


def test_a_replay_makes_no_spans(make_worker, configure):
    configure(INSTANCE_CACHE_SIZE=0)
    make_worker()
    durable.start_workflow(workflows.chain.using(workflow_id="replayed"), 5).result(timeout=DEADLINE)
    one("workflow flows.chain")
    assert len(named("activity flows.add")) == 5
    EXPORTER.clear()
    durable.get_workflow("replayed").stack()
    assert EXPORTER.get_finished_spans() == ()


@pytest.mark.slow
def test_the_trace_goes_on_in_another_process(make_dying_worker, tmp_path, monkeypatch):
    written = tmp_path / "spans.jsonl"
    monkeypatch.setenv("DURABLE_TEST_SPANS", str(written))
    monkeypatch.setenv("DURABLE_TEST_APPS", "tests.flows.telemetry.TelemetryConfig,django_durable.contrib.tracing")
    make_dying_worker("never")
    started("flows.nothing", 1).result(timeout=DEADLINE)
    wait_for(lambda: written.exists() and written.read_text().count("\n") == 2, "the spans of the other process")
    found = {span["name"]: span for span in map(json.loads, written.read_text().splitlines())}
    assert set(found) == {"activity flows.nothing", "workflow flows.call"}
    expected = f"0x{trace.format_trace_id(one('POST checkout').context.trace_id)}"
    assert {span["context"]["trace_id"] for span in found.values()} == {expected}
