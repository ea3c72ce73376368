"""``django durable_process``: started by workers for activities with ``executor="process"``, never by hand."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from django_durable.worker import child, embedded


class Command(BaseCommand):
    help = "Executes activities for the worker that has started it. Not for people."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        with embedded.standing_back():
            child.main()
