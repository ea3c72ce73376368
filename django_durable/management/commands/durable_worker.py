"""``manage.py durable_worker``: carry workflows until told to stop."""

from __future__ import annotations

import signal
import sys
import threading
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand

from django_durable.worker import embedded, logs
from django_durable.worker.progress import ProgressLine
from django_durable.worker.worker import Worker

EXIT_FORCED = 130


def positive(text: str) -> int:
    """A whole number from 1 up."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"{number} is less than 1")
    return number


class Command(BaseCommand):
    help = "Runs workflows and activities. The first SIGTERM or SIGINT drains and ends it, the second ends it at once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--queues", help="names of the queues to serve, separated by commas (default: DURABLE['QUEUES'])"
        )
        parser.add_argument(
            "--concurrency", type=positive, help="activities at a time in threads (default: DURABLE['CONCURRENCY'])"
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
        with signals_of(worker):
            self._run(worker, options["verbosity"])
        if worker.exit_code:
            sys.exit(worker.exit_code)

    def _run(self, worker: Worker, verbosity: int) -> None:
        worker.start()
        progress = ProgressLine(worker, self.stderr) if sys.stderr.isatty() and verbosity > 0 else None
        while not worker.join(timeout=0.5):
            if progress is not None:
                progress.update()


@contextmanager
def signals_of(worker: Worker) -> Iterator[None]:
    """First signal: drain. Second: end at once, with everything that runs given back.

    Only the main thread can handle signals; called elsewhere, by a test for example, they are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) == 1:
            worker.stop()
            return
        worker.force_stop()
        sys.stderr.flush()
        sys.exit(EXIT_FORCED)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
