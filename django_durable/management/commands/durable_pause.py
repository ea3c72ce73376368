"""``manage.py durable_pause``: let no worker take runs of a workflow."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_durable import client
from django_durable.api import durable
from django_durable.definitions import options as checks
from django_durable.models import WorkflowRun
from django_durable.store import database


class Command(BaseCommand):
    help = "Lets no worker take runs of a workflow until durable_resume; without a name it lists what is paused."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", help="name of the workflow, all of whose versions are paused")
        parser.add_argument("--reason", default="", help="for people")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["name"] is None:
            self._list()
            return
        check_known(options["name"])
        if durable.pause_definition(options["name"], options["reason"]):
            self.stdout.write(f"{options['name']} is paused. Workers see it within about a second.")
        else:
            self.stdout.write(f"{options['name']} was paused already.")

    def _list(self) -> None:
        paused = client.paused_definitions()
        for name, reason in paused.items():
            self.stdout.write(f"{name}: {reason}" if reason else name)
        if not paused:
            self.stdout.write("No workflow is paused.")


def check_known(name: str) -> None:
    """Raise ``CommandError`` for a name that neither this code nor any run has."""
    known = {one.name for one in durable.registry.workflows()}
    if name in known or WorkflowRun.objects.using(database.alias()).filter(name=name).exists():
        return
    raise CommandError(f"No workflow is called {name!r}.{checks.near(name, known)}")
