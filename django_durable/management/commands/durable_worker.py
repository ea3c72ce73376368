"""``manage.py durable_worker``: carry workflows until told to stop."""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand

from django_durable.worker import embedded, logs
from django_durable.worker.progress import ProgressLine
from django_durable.worker.worker import Worker

EXIT_FORCED = 130


class Command(BaseCommand):
    help = "Runs workflows and activities. The first SIGTERM or SIGINT drains and ends it, the second ends it at once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--queues", help="names of the queues to serve, separated by commas (default: DURABLE['QUEUES'])"
        )
        parser.add_argument(
            "--concurrency", type=int, help="activities at a time in threads (default: DURABLE['CONCURRENCY'])"
        )
        parser.add_argument("--burst", action="store_true", help="end as soon as nothing is due")

    def handle(self, *args: Any, **options: Any) -> None:
        embedded.refuse()
        logs.configure(options["verbosity"])
        queues = tuple(filter(None, map(str.strip, (options["queues"] or "").split(","))))
        worker = Worker(
            queues=queues or None,
            concurrency=options["concurrency"],
            burst=options["burst"],
            may_exit=True,
        )
        handle_signals(worker)
        worker.start()
        progress = ProgressLine(worker, self.stderr) if sys.stderr.isatty() and options["verbosity"] > 0 else None
        while not worker.join(timeout=0.5):
            if progress is not None:
                progress.update()
        sys.exit(worker.exit_code)


def handle_signals(worker: Worker) -> None:
    """First signal: drain. Second: end at once, with everything that runs given back."""
    asked: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) == 1:
            worker.stop()
            return
        worker.force_stop()
        sys.stderr.flush()
        sys.exit(EXIT_FORCED)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
