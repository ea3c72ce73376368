"""``manage.py durable_worker``: carry workflows until told to stop."""

from __future__ import annotations

import signal
import sys
import threading
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from django_durable import conf
from django_durable.worker import child, embedded, logs, member, reloading, wire
from django_durable.worker.crew import Crew
from django_durable.worker.progress import ProgressLine
from django_durable.worker.worker import Worker

EXIT_FORCED = 130
METRICS = "django_durable.contrib.metrics"  # needs a package that not everybody has, so it is imported when asked for


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
        parser.add_argument(
            "--metrics-port",
            metavar="[ADDRESS:]PORT",
            help="serve metrics for Prometheus there (default: DURABLE['METRICS_ADDRESS'])",
        )
        parser.add_argument("--burst", action="store_true", help="end as soon as nothing is due")
        parser.add_argument(
            "--processes", type=positive, default=1, help="worker processes under this one (default: 1)"
        )
        parser.add_argument(
            "--reload", action="store_true", help="begin anew when code has changed: for development, with one process"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with embedded.standing_back():
            self._handle(options)

    def _handle(self, options: dict[str, Any]) -> None:
        logs.configure(options["verbosity"])
        options["queues"] = queues_of(options["queues"])
        metrics = options["metrics_port"] or conf.current().METRICS_ADDRESS
        if options["reload"]:
            self._reload(metrics, options)
        elif options["processes"] > 1:
            check_metrics(metrics)
            crew = Crew(options["processes"], arguments_of(options), metrics=bool(metrics))
            self._run(crew, options["verbosity"])
        elif member.is_this():
            self._serve(metrics, options)
        else:
            worker = worker_of(options)
            serve_metrics(metrics)
            self._run(worker, options["verbosity"])

    def _run(self, worker: Worker | Crew, verbosity: int) -> None:
        with signals_of(worker):
            worker.start()
            progress = ProgressLine(worker, self.stderr) if sys.stderr.isatty() and verbosity > 0 else None
            while not worker.join(timeout=0.5):
                if progress is not None:
                    progress.update()
        if worker.exit_code:
            sys.exit(worker.exit_code)

    def _serve(self, metrics: str, options: dict[str, Any]) -> None:
        """As a worker of a crew, whose signals are its parent's."""
        child.leave_signals_to_parent()
        with wire.over_standard_streams() as pipe:
            worker = worker_of(options)
            serve_metrics(metrics)
            worker.start()
            if not member.Member(worker, pipe).serve():
                sys.exit(EXIT_FORCED)
        if worker.exit_code:
            sys.exit(worker.exit_code)

    def _reload(self, metrics: str, options: dict[str, Any]) -> None:
        if options["processes"] > 1:
            raise CommandError("--reload is for development and works with one process: leave --processes out.")
        if not reloading.is_inside():
            sys.exit(reloading.Reloader([*arguments_of(options), "--reload"]).run())

        def main() -> None:
            worker = worker_of(options)
            reloading.hand_over_at_exit(worker)
            serve_metrics(metrics)
            self._run(worker, options["verbosity"])

        reloading.run_inside(main)


def queues_of(given: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Names of queues, from text with commas or a list; None: those of the settings. Raises ``CommandError``."""
    if given is None:
        return None
    queues = tuple(filter(None, map(str.strip, given.split(",") if isinstance(given, str) else given)))
    if not queues:
        raise CommandError("--queues names no queue. Leave it out to serve those of DURABLE['QUEUES'].")
    return queues


def worker_of(options: dict[str, Any]) -> Worker:
    """The worker that these options ask for."""
    return Worker(
        queues=options["queues"],
        concurrency=options["concurrency"],
        burst=options["burst"],
        may_exit=True,
    )


def arguments_of(options: dict[str, Any]) -> list[str]:
    """These options for a worker that this process starts."""
    arguments = [f"--verbosity={options['verbosity']}"]
    if options["queues"]:
        arguments.append(f"--queues={','.join(options['queues'])}")
    for name in ("concurrency", "metrics_port"):
        if options[name] is not None:
            arguments.append(f"--{name.replace('_', '-')}={options[name]}")
    if options["burst"]:
        arguments.append("--burst")
    return arguments


def check_metrics(address: str) -> None:
    """Raises ``CommandError`` if metrics are to be served that the project has not installed."""
    if address and not apps.is_installed(METRICS):
        raise CommandError(f"Metrics are served only if {METRICS!r} is in INSTALLED_APPS.")


def serve_metrics(address: str) -> None:
    """Begin to serve metrics, if an address is given. Raises ``CommandError`` if the project has not installed them."""
    check_metrics(address)
    if not address:
        return
    try:
        import_string(f"{METRICS}.serving.serve")(address)
    except (OSError, ValueError) as error:
        raise CommandError(f"Metrics cannot be served at {address}: {error}") from error


@contextmanager
def signals_of(worker: Worker | Crew) -> Iterator[None]:
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
