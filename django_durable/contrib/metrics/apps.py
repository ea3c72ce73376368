"""The app: begins to count when Django is ready."""

from __future__ import annotations

from django.apps import AppConfig

from django_durable.contrib.metrics import instruments


class MetricsConfig(AppConfig):
    name = "django_durable.contrib.metrics"
    label = "durable_metrics"
    verbose_name = "Durable workflows: metrics"

    def ready(self) -> None:
        instruments.connect()
