"""A backend of ``django.tasks``, from Django 6.0 on, and of the backport ``django-tasks`` before.

``TASKS = {"default": {"BACKEND": "django_durable.contrib.tasks.DurableBackend"}}``
"""

from __future__ import annotations

from django_durable.contrib.tasks.backend import DurableBackend
from django_durable.contrib.tasks.task import DurableTask

__all__ = ["DurableBackend", "DurableTask"]
