"""An app that makes a process write its spans into a file, ``DURABLE_TEST_SPANS``: one JSON object a line."""

from __future__ import annotations

import os

from django.apps import AppConfig
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor


class TelemetryConfig(AppConfig):
    name = "tests.flows.telemetry"
    label = "flows_telemetry"
    path = os.path.dirname(__file__)

    def ready(self) -> None:
        out = open(os.environ["DURABLE_TEST_SPANS"], "a", encoding="utf-8")
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=out, formatter=_line)))
        trace.set_tracer_provider(provider)


def _line(span: ReadableSpan) -> str:
    return f"{span.to_json(indent=None)}\n"
