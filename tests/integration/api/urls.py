"""URLs of a project that has the API, beside the addresses of callbacks."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("durable/", include("django_durable.contrib.api.urls")),
    path("durable/", include("django_durable.urls")),
]
