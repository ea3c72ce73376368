"""``manage.py dying_prune --at POINT``: ``durable_prune`` that dies without warning at one point of its work."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from typing import Any

from django_durable.management.commands import durable_prune
from django_durable.store import pruning, remains
from tests.flows.management.commands.dying_worker import after, before

POINTS: dict[str, Callable[[], None]] = {
    "exported": partial(before, pruning, "bury"),
    "burying": partial(after, pruning, "_delete"),  # the transaction is open
    "buried": partial(before, remains, "clear"),
    "clearing": partial(after, remains, "_delete_behind"),  # the transaction is open
}


class Command(durable_prune.Command):
    requires_system_checks = ()
    help = "Deletes workflows up to a point, and there dies without warning."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--at", choices=POINTS, required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        remains.EVENTS = 4  # so that a history goes in several slices
        POINTS[options["at"]]()
        super().handle(*args, **options)
