"""URLs to include: ``path("durable/", include("django_durable.contrib.api.urls"))``."""

from __future__ import annotations

from django.urls import URLPattern, re_path

from django_durable.contrib.api.application import NAMESPACE, api
from django_durable.contrib.api.boundary import guarded, not_found

app_name = NAMESPACE

DOCS = ("openapi-json", "openapi-view")

urlpatterns = [
    *(guarded(one, docs=one.name in DOCS) for one in api.urls[0] if isinstance(one, URLPattern)),
    # The addresses of callbacks may be included under the same prefix.
    guarded(re_path(r"^(?!callbacks/).*$", not_found, name="nothing")),
]
