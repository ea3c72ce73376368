"""``manage.py durable_retry``: let failed workflows go on with the code of today."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from django_durable.api import durable
from django_durable.client import resetting
from django_durable.management.selecting import moment
from django_durable.models import WorkflowRun
from django_durable.store import database


class Command(BaseCommand):
    help = "Lets workflows that have failed or timed out go on just before their failure, with the code of today."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", action="append", help="only this workflow; may be repeated")
        parser.add_argument(
            "--failed-since",
            type=moment,
            help="only those that failed since then: 2026-03-01, 36h, 7d",
        )
        parser.add_argument("--limit", type=int, metavar="N", help="at most N, those first that failed first")
        parser.add_argument("--dry-run", action="store_true", help="only print which they are")

    def handle(self, *args: Any, **options: Any) -> None:
        failed = WorkflowRun.objects.using(database.alias()).filter(status__in=sorted(resetting.RETRIED))
        if options["name"]:
            failed = failed.named(*options["name"])
        if options["failed_since"] is not None:
            failed = failed.closed_since(options["failed_since"])
        failed = failed.last_of_chain().order_by("closed_at", "id")
        if options["limit"] is not None:
            failed = failed[: options["limit"]]
        if options["dry_run"]:
            for run in failed.defer("input", "result", "failure"):
                self.stdout.write(f"{run.name} {run.workflow_id} (run {run.pk}): {run.status} at {run.closed_at}")
            return
        result = durable.retry_failed(failed, "durable_retry")
        self.stdout.write(f"Runs retried: {result.done}. Left as they are: {result.skipped}.")
