"""System checks that ask a MariaDB server what it is and how it is set up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_durable import conf
from django_durable.store import collation, mariadb, portions

OLDEST = (10, 6)  # the first whose SELECT knows SKIP LOCKED


def check_server(app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """durable.E010, durable.W007, durable.W008: a server, tables or limits that are not as they must be."""
    alias = conf.current().DATABASE
    if alias not in (databases or ()) or connections[alias].vendor != "mysql":
        return []
    try:
        return list(_unfit(connections[alias]) or _unprepared(connections[alias]))
    except DatabaseError:  # Django itself says what is wrong with it
        return []


def _unfit(own: Any) -> list[CheckMessage]:
    version = ".".join(map(str, own.mysql_version))
    if own.mysql_is_mariadb and own.mysql_version >= OLDEST:
        return []
    name = "MariaDB" if own.mysql_is_mariadb else "MySQL"
    return [
        Error(
            f"Database {own.alias!r} is {name} {version}, which workflows cannot be kept in.",
            hint="Use MariaDB 10.6 or newer, or PostgreSQL; MySQL is not supported. "
            'DURABLE["DATABASE"] may name a database of its own.',
            id="durable.E010",
        )
    ]


def _unprepared(own: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    tables = collation.inexact(own, [model._meta.db_table for model in apps.get_app_config("durable").get_models()])
    if tables:
        yield Warning(
            f"On database {own.alias!r} {len(tables)} of our tables, such as {tables[0]!r}, compare text inexactly: "
            f"workflow ids that differ in case or accents would be one.",
            hint=f"manage.py migrate gives them the collation {mariadb.COLLATION}.",
            id="durable.W007",
        )
    packet, needed = _packet(own), portions.longest_statement(conf.current().MAX_PAYLOAD_BYTES)
    if packet < needed:
        yield Warning(
            f"The server of database {own.alias!r} takes statements of {packet:,} bytes (max_allowed_packet), but a "
            f"payload of MAX_PAYLOAD_BYTES may need {needed:,}.",
            hint="Raise max_allowed_packet, or lower DURABLE['MAX_PAYLOAD_BYTES'].",
            id="durable.W008",
        )


def _packet(own: BaseDatabaseWrapper) -> int:
    with own.cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        return int(cursor.fetchone()[0])


ALL = (check_server,)
