"""Whether everything is there that work needs: the database, its tables as this code knows them, the transports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules

from django.db import DatabaseError, InterfaceError
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from django_durable import transports
from django_durable.exceptions import DefinitionError
from django_durable.models import WorkflowRun
from django_durable.store import database


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. ``problem`` is empty if it is as it should be."""

    name: str
    problem: str = ""


def findings() -> list[Finding]:
    """Look at everything. Never raises; what depends on something that is missing is left out."""
    found = [_look("database", _ask_database)]
    if not found[0].problem:
        found.append(_look("migrations", _ask_migrations))
    return found + list(_transports())


def _transports() -> Iterator[Finding]:
    try:
        chosen = transports.all()
    except (DefinitionError, DatabaseError, InterfaceError) as error:
        yield Finding(name="transports", problem=str(error))
        return
    for transport in chosen:
        yield _look(f"transport {transport.alias}", transport.check)


def _look(name: str, ask: Callable[[], None]) -> Finding:
    try:
        ask()
    except Exception as error:  # of whatever driver
        return Finding(name=name, problem=str(error).strip() or type(error).__name__)
    return Finding(name=name)


def _ask_database() -> None:
    with database.cursor() as cursor:
        cursor.execute("SELECT 1")


class Unapplied(Exception):
    """The tables are older than the code."""


def _ask_migrations() -> None:
    label = WorkflowRun._meta.app_label
    place, _ = MigrationLoader.migrations_module(label)
    if place is None:  # the project makes its tables without migrations
        return
    known = {one.name for one in iter_modules(import_module(place).__path__) if one.name[0] not in "_~"}
    applied = {name for app, name in MigrationRecorder(database.connection()).applied_migrations() if app == label}
    if missing := sorted(known - applied):
        raise Unapplied(f"{len(missing)} are not applied, the first is {missing[0]}: manage.py migrate {label}")
