"""Workers: who is there, and when each was last heard of."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString

from django_durable.admin import times
from django_durable.admin.badges import badge
from django_durable.admin.readonly import ReadOnlyAdmin
from django_durable.models import Worker


def state_of(worker: Any) -> str:
    """In one word. ``late``: its lease has expired and nobody has declared it dead yet."""
    if worker.dead:
        return "dead"
    if worker.expires_at < worker.now:
        return "late"
    return "stopping" if worker.stopping else "alive"


class WorkerAdmin(ReadOnlyAdmin):
    list_display = ["worker", "state", "heartbeat", "served", "concurrency", "release"]
    list_filter = ["dead"]
    search_fields = ["name", "queues"]
    ordering = ["dead", "-id"]
    sortable_by = ["worker"]

    @admin.display(description="worker", ordering="name")
    def worker(self, worker: Worker) -> str:
        return str(worker)

    @admin.display(description="state")
    def state(self, worker: Worker) -> SafeString:
        return badge(state_of(worker))

    @admin.display(description="last heartbeat")
    def heartbeat(self, worker: Any) -> SafeString:
        return format_html("{} ago", times.age(worker.heartbeat_at, worker.now))

    @admin.display(description="queues")
    def served(self, worker: Worker) -> str:
        return worker.queues.replace("\n", ", ")
