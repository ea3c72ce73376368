"""``manage.py durable_queues``: what waits in each queue."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

import msgspec
from django.core.management.base import BaseCommand

from django_durable.management import tables
from django_durable.store import backlog

HEAD = ("queue", "runs due", "activities due", "oldest", "runs owned", "running", "workers", "started/min", "ended/min")


class Command(BaseCommand):
    help = "Shows for each queue what is due, for how long, what is being worked on, and how many runs start and end."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        found = backlog.read()
        if options["json"]:
            plain = {"queues": [asdict(one) | {"depth": one.depth} for one in found]}
            self.stdout.write(msgspec.json.encode(plain).decode())
            return
        tables.write(self.stdout, HEAD, [_row(one) for one in found], nothing="There is no queue.")


def _row(one: backlog.QueueBacklog) -> tuple[object, ...]:
    return (
        f"{one.name} (paused)" if one.paused else one.name,
        one.runs_due,
        one.activities_due,
        "-" if one.oldest_seconds is None else f"{one.oldest_seconds:.0f} s",
        one.runs_owned,
        one.activities_running,
        one.workers,
        f"{one.started_per_minute:.0f}",
        f"{one.finished_per_minute:.0f}",
    )
