"""``path("metrics/durable/", include("django_durable.contrib.metrics.urls"))``."""

from __future__ import annotations

from django.urls import path

from django_durable.contrib.metrics import views

app_name = "durable_metrics"
urlpatterns = [path("", views.queue_metrics, name="queues")]
