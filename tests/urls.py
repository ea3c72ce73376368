"""The example project's URLs without its faces: worker processes need not load the frameworks of those."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("durable/", include("django_durable.urls")),
    path("", include("example_project.shop.urls")),
]
