"""``manage.py durable_health``: exit code 0 if all is well, for probes."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

import msgspec
from django.core.management.base import BaseCommand

from django_durable import conf
from django_durable.client import readiness
from django_durable.client.readiness import Finding
from django_durable.worker import liveness

UNHEALTHY = 1


class Command(BaseCommand):
    help = (
        "Live: the workers of this project on this machine make progress. Ready: the database answers, its migrations "
        "are applied, the transports can be reached. Looks at both unless told otherwise; exit code 1 if one is not so."
    )
    requires_system_checks = ()  # a probe starts every few seconds

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--live", action="store_true", help="only whether workers make progress; asks no database")
        what.add_argument("--ready", action="store_true", help="only whether workers could work; asks no worker")
        parser.add_argument(
            "--max-silence",
            type=float,
            metavar="SECONDS",
            help="how long an engine may make no step (default: DURABLE['LEASE_SECONDS'])",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        most = options["max_silence"] or conf.current().LEASE_SECONDS
        findings = [*(() if options["ready"] else _live(most)), *(() if options["live"] else readiness.findings())]
        healthy = not any(one.problem for one in findings)
        if options["json"]:
            plain = {"healthy": healthy, "findings": [asdict(one) for one in findings]}
            self.stdout.write(msgspec.json.encode(plain).decode())
        else:
            for one in findings:
                self.stdout.write(f"{one.name}: {one.problem or 'ok'}")
        if not healthy:
            sys.exit(UNHEALTHY)


def _live(most: float) -> list[Finding]:
    signs = liveness.signs()
    if not signs:
        return [Finding(name="worker", problem=f"none runs here: there is no sign of one in {liveness.directory()}")]
    return [
        Finding(
            name=f"worker {sign.pid} ({', '.join(sign.queues)})",
            problem=f"no progress for {sign.silent_seconds:.0f} s" if sign.silent_seconds > most else "",
        )
        for sign in signs
    ]
