"""``manage.py durable_prune``: delete workflows that have ended, as workers do by ``DURABLE["RETENTION"]``."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from django_durable.client import pruning
from django_durable.client.pruning import Rules
from django_durable.definitions.retention import CONTINUED, STATUSES
from django_durable.exceptions import DurableError
from django_durable.management import selecting, tables
from django_durable.store import clock
from django_durable.store import pruning as store


class Command(BaseCommand):
    help = (
        "Deletes workflows that have ended, with their histories: those that DURABLE['RETENTION'] and the retention= "
        "of their declarations let go, or whatever ended before a given time. Children go with their parents. It may "
        "be stopped at any time and started again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only tell what would be deleted")
        parser.add_argument(
            "--before",
            type=selecting.moment,
            help="whatever ended before then, retention or not: 2026-03-01, 2026-03-01T12:00, 36h, 7d",
        )
        parser.add_argument("--status", choices=STATUSES, action="append", help="only what ended so; repeatable")
        parser.add_argument("--name", action="append", help="only this workflow; repeatable")
        parser.add_argument(
            "--export", type=Path, metavar="DIR", help="write them to files in this directory first, as durable_export"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        before = options["before"]
        names = options["name"] or (pruning.names() if before is None else store.names())
        if not names:
            raise CommandError(
                "No workflow has a retention. Set DURABLE['RETENTION'], declare @durable.workflow(retention=...), or "
                "say what is to go: --before 90d."
            )
        rules = Rules(now=clock.read(), before=before, statuses=options["status"])
        found: Counter[tuple[str, str]] = Counter()
        for name in names:
            for families in pruning.expired(name, rules):
                found.update((chain.last.name, chain.last.status) for chain in self._go(families, options))
            for run_ids in pruning.continued(name, rules):
                found[name, CONTINUED] += len(self._shorten(run_ids, options))
        rows = [(*key, count) for key, count in sorted(found.items())]
        tables.write(self.stdout, ("workflow", "status", "count"), rows, nothing="There is nothing to delete.")
        if rows and options["dry_run"]:
            self.stdout.write("Nothing has been deleted.")

    def _go(self, families: list[pruning.Family], options: dict[str, Any]) -> list[store.Chain]:
        if options["dry_run"]:
            return [chain for family in families for chain in family]
        with _exporting():
            gone = pruning.delete(families, export=options["export"])
        pruning.clear()
        return gone

    def _shorten(self, run_ids: list[UUID], options: dict[str, Any]) -> list[UUID]:
        if options["dry_run"]:
            return run_ids
        with _exporting():
            gone = pruning.shorten(run_ids, export=options["export"])
        pruning.clear()
        return gone


@contextmanager
def _exporting() -> Iterator[None]:
    try:
        yield
    except (OSError, DurableError) as error:
        raise CommandError(f"Nothing more is deleted, because the export failed: {error}") from error
