"""``manage.py durable_replay``: does today's code repeat what runs have done? The gate before a deploy."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_durable.client import replaying
from django_durable.exceptions import DurableError, NonDeterminismError
from django_durable.history import transcript
from django_durable.history.transcript import RunLine, Transcript
from django_durable.management import selecting
from django_durable.management.commands.durable_worker import positive
from django_durable.store import transcripts


def _seconds(text: str) -> float:
    """More than none."""
    seconds = float(text)
    if not seconds > 0:
        raise ArgumentTypeError(f"{text} is not more than 0")
    return seconds


class Command(BaseCommand):
    help = (
        "Replays the open runs of the database, and histories that durable_export has written, with the code of this "
        "process. Prints the first difference of each and exits with 1 if there is any. Writes nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="*", metavar="FILE", help="exported histories, to be replayed instead")
        parser.add_argument("--open", action="store_true", help="the open runs of the database as well as the files")
        parser.add_argument("--closed", action="store_true", help="closed runs of the database too")
        parser.add_argument(
            "--sample", type=positive, metavar="N", help="at most N runs of each workflow and version, the latest"
        )
        parser.add_argument(
            "--step-seconds",
            type=_seconds,
            metavar="SECONDS",
            help="how long one step of a run's code may take (default: DURABLE['STUCK_SECONDS'])",
        )
        selecting.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        counts: Counter[str] = Counter()
        for one in self._all(options):
            counts["replayed"] += 1
            if not self._replay(one, options["step_seconds"]):
                counts["differ"] += 1
        self.stdout.write(f"Runs replayed: {counts['replayed']}. Cannot go on with this code: {counts['differ']}.")
        if counts["differ"]:
            sys.exit(1)

    def _replay(self, one: Transcript, step_seconds: float | None) -> bool:
        try:
            replaying.replay(one, seconds=step_seconds)
        except NonDeterminismError as error:
            self._tell(
                one.run,
                f"event {error.event}",
                f"recorded:  {error.recorded}",
                f"requested: {error.requested}",
                f"at {error.where or 'an unknown line'}",
            )
            return False
        except DurableError as error:
            self._tell(one.run, str(error))
            return False
        except Exception as error:  # whatever the user's code does when it is imported or called
            self._tell(one.run, f"{type(error).__name__}: {error}")
            return False
        return True

    def _tell(self, run: RunLine, headline: str, *lines: str) -> None:
        version = f" {run.version}" if run.version else ""
        self.stdout.write(f"{run.name}{version} {run.workflow_id} (run {run.run_id}): {headline}")
        for line in lines:
            self.stdout.write(f"    {line}")

    # What is replayed

    def _all(self, options: dict[str, Any]) -> Iterator[Transcript]:
        for path in options["files"]:
            yield from self._of_file(Path(path), options["name"], options["since"])
        if options["open"] or options["closed"] or not options["files"]:
            yield from self._of_database(options)

    def _of_file(self, path: Path, names: list[str] | None, since: datetime | None) -> Iterator[Transcript]:
        try:
            with path.open(encoding="utf-8") as lines:
                for one in transcript.read(lines, name=str(path)):
                    started = one.events[0].time if one.events else None
                    late = since is None or (started is not None and started >= since)
                    if late and (not names or one.run.name in names):
                        yield one
        except (OSError, UnicodeDecodeError, DurableError) as error:
            raise CommandError(f"{path} cannot be read: {error}") from error

    def _of_database(self, options: dict[str, Any]) -> Iterator[Transcript]:
        runs = selecting.selected(name=options["name"], since=options["since"])
        if not options["closed"]:
            runs = runs.open()
        if options["sample"]:
            runs = runs.filter(pk__in=list(transcripts.latest_of_each(runs, options["sample"])))
        yield from transcripts.of(runs)
