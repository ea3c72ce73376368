"""``manage.py durable_resume``: let workers take runs of a workflow again."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from django_durable.api import durable


class Command(BaseCommand):
    help = "Lets workers take runs of a workflow again that durable_pause has paused."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="name of the workflow")

    def handle(self, *args: Any, **options: Any) -> None:
        if durable.resume_definition(options["name"]):
            self.stdout.write(f"{options['name']} goes on.")
        else:
            self.stdout.write(f"{options['name']} was not paused.")
