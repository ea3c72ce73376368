"""``manage.py durable_export``: runs and their histories as lines of text."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from django_durable.history import transcript
from django_durable.management import selecting
from django_durable.store import transcripts


class Command(BaseCommand):
    help = (
        "Writes runs and their events to standard output as they are stored, one JSON object a line. "
        "durable_replay reads them. They hold inputs, results and errors: keep them as you keep the database."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        selecting.add_arguments(parser)
        parser.add_argument("--workflow-id", action="append", metavar="ID", help="only runs of this workflow id")
        parser.add_argument("--status", type=selecting.status, action="append", help="only runs of this status")

    def handle(self, *args: Any, **options: Any) -> None:
        runs = selecting.selected(name=options["name"], since=options["since"])
        if options["workflow_id"]:
            runs = runs.filter(workflow_id__in=options["workflow_id"])
        if options["status"]:
            runs = runs.filter(status__in=options["status"])
        for one in transcripts.of(runs):
            self.stdout.write(transcript.write(one.run))
            for event in one.events:
                self.stdout.write(transcript.write(event))
