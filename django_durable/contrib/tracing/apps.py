"""The app: begins to make spans when Django is ready."""

from __future__ import annotations

from django.apps import AppConfig

from django_durable.contrib.tracing import spans


class TracingConfig(AppConfig):
    name = "django_durable.contrib.tracing"
    label = "durable_tracing"
    verbose_name = "Durable workflows: traces"

    def ready(self) -> None:
        spans.connect()
