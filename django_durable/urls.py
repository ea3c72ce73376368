"""URLs to include: ``path("durable/", include("django_durable.urls"))``."""

from __future__ import annotations

from django.urls import path

from django_durable import views

app_name = "django_durable"

urlpatterns = [
    path("callbacks/<str:token>/", views.callback, name="callback"),
]
