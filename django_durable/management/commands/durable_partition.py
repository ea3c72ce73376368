"""``manage.py durable_partition``: the table of events in parts, one for each month (PostgreSQL)."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError
from django.template.defaultfilters import filesizeformat

from django_durable.management import tables
from django_durable.store import database, outages, partitions

HEAD = ("part", "runs from", "until", "size")


class Command(BaseCommand):
    help = (
        "Divides the table of events into parts, one for each month in which runs begin, so that a month of which "
        "nothing is kept any more is dropped at once. What is there stays where it is, and everything goes on "
        "meanwhile. From then on workers add and drop parts, as this command does when it is run again. For "
        "PostgreSQL only."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--show", action="store_true", help="change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if not database.is_postgres():
            raise CommandError("Only PostgreSQL has tables in parts. Elsewhere the events stay in one table.")
        if not options["show"]:
            _divide(datetime.now(UTC))
        rows = [(one.name, _day(one.start), _day(one.end), filesizeformat(one.bytes)) for one in partitions.parts()]
        tables.write(self.stdout, HEAD, rows, nothing="The events are in one table.")


def _divide(now: datetime) -> None:
    if partitions.parts():
        partitions.keep_up(now)
        return
    try:
        partitions.introduce(now)
    except OperationalError as error:
        if not outages.is_conflict(error):
            raise
        raise CommandError(
            "Nothing has been changed: others keep the table of events locked, such as a long transaction or a dump. "
            "Run the command again once they have ended."
        ) from error


def _day(limit: UUID | None) -> str:
    return "-" if limit is None else f"{partitions.moment_of(limit):%Y-%m-%d}"
