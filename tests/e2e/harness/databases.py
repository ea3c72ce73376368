"""Databases that exist for one scenario, and this process's connection to them."""

from __future__ import annotations

import io
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import ConnectionHandler

from example_project import database

PARTITIONED = bool(os.environ.get("DURABLE_TEST_PARTITIONED"))
"""On PostgreSQL the table of events is to be in parts."""


def fresh(server: str) -> AbstractContextManager[str]:
    """The URL of a new, empty database on the server that the URL ``server`` names; of a file, if it is empty."""
    match urlsplit(server).scheme:
        case "":
            return fresh_sqlite()
        case "mysql":
            return fresh_mariadb(server)
        case _:
            return fresh_postgres(server)


@contextmanager
def fresh_postgres(server: str) -> Iterator[str]:
    """Create a database on the server that the URL ``server`` names; its own URL is given."""
    name = _new_name()
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    try:
        yield with_name(server, name)
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def fresh_mariadb(server: str) -> Iterator[str]:
    """The same on a MariaDB server."""
    name = _new_name()
    _administer(server, f"CREATE DATABASE `{name}`")
    try:
        yield with_name(server, name)
    finally:
        _administer(server, f"DROP DATABASE `{name}`")


def _administer(server: str, statement: str) -> None:
    own = ConnectionHandler({DEFAULT_DB_ALIAS: database.from_url(server)})[DEFAULT_DB_ALIAS]
    try:
        with own.cursor() as cursor:
            cursor.execute(statement)
    finally:
        own.close()


def _new_name() -> str:
    return f"durable_e2e_{uuid.uuid4().hex[:10]}_chaos"


@contextmanager
def fresh_sqlite() -> Iterator[str]:
    """The URL of an SQLite file that does not exist yet."""
    with tempfile.TemporaryDirectory(prefix="durable-chaos-") as directory:
        yield database.sqlite_url(Path(directory) / "chaos.sqlite3")


@contextmanager
def connected(url: str) -> Iterator[None]:
    """Make ``url`` this process's database, with all tables."""
    configured = connections.configure_settings({DEFAULT_DB_ALIAS: database.from_url(url)})[DEFAULT_DB_ALIAS]
    before = connections.settings[DEFAULT_DB_ALIAS]
    _point_to(configured)
    try:
        call_command("migrate", verbosity=0)
        if PARTITIONED and vendor(url) == "postgresql":
            call_command("durable_partition", stdout=io.StringIO())
        yield
    finally:
        _point_to(before)


def _point_to(configured: dict[str, object]) -> None:
    """Other threads keep the connections that they have: the harness uses Django in one thread only."""
    connections[DEFAULT_DB_ALIAS].close()
    connections.settings[DEFAULT_DB_ALIAS] = configured
    del connections[DEFAULT_DB_ALIAS]


def with_name(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def with_address(url: str, host: str, port: int) -> str:
    """The same database behind another address."""
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{login}@{host}:{port}" if login else f"{host}:{port}"))


def vendor(url: str) -> str:
    """``postgresql``, ``mysql`` or ``sqlite``, as Django's connections call it."""
    return str(database.from_url(url)["ENGINE"]).rpartition(".")[2].removesuffix("3")
