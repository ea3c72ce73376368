"""``manage.py durable_versions``: which code open runs need."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

import msgspec
from django.core.management.base import BaseCommand

from django_durable.client import versions
from django_durable.management import tables

CODE = {"same": "as here", "changed": "changed since", "missing": "not here"}


class Command(BaseCommand):
    help = (
        "Shows open runs by workflow, version and fingerprint, and whether this code has them; and for each patch "
        "whether an open run still needs its old branch."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        found = versions.versions_in_use()
        if options["json"]:
            self.stdout.write(msgspec.json.encode(_plain(found)).decode())
            return
        tables.write(
            self.stdout,
            ("workflow", "version", "fingerprint", "open runs", "code"),
            [(one.name, one.version or "-", one.fingerprint, one.runs, CODE[one.code]) for one in found.versions],
            nothing="No run is open.",
        )
        self.stdout.write("")
        tables.write(
            self.stdout,
            ("patch", "workflow", "version", "open runs without it", "old branch", "in this code"),
            [
                (
                    one.id,
                    one.name,
                    one.version or "-",
                    one.unmarked,
                    "needed" if one.old_branch_needed else "not needed",
                    "yes" if one.in_code else "no",
                )
                for one in found.patches
            ],
            nothing="There are no patches.",
        )


def _plain(found: versions.Versions) -> dict[str, Any]:
    patches = [asdict(one) | {"old_branch_needed": one.old_branch_needed} for one in found.patches]
    return {"versions": [asdict(one) for one in found.versions], "patches": patches}
