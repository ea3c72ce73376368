"""``flush`` as the test suite has it: after a test with real transactions only the tables that it wrote are emptied.

Django truncates every table, which costs PostgreSQL new files for each, and makes permissions and content types anew.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management.commands import flush
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

KEPT = {Permission._meta.db_table, ContentType._meta.db_table}
BLOATED = 1_000_000  # bytes: deleted rows stay in the file, and a test that wrote so much leaves no such file behind


class Command(flush.Command):
    def handle(self, *, database: str, **options: Any) -> None:  # type: ignore[override]
        connection = connections[database]
        tables = _tables(connection)
        if database != DEFAULT_DB_ALIAS:  # a test's own, which may have been given no tables
            tables = sorted({*tables}.intersection(connection.introspection.table_names()))
        if not tables:
            return
        with transaction.atomic(using=database):
            if connection.vendor == "mysql":
                _end_others(connection)
            sizes = _sizes(connection, tables)
            if max(sizes.values(), default=0) <= BLOATED:
                _empty(connection, list(sizes))
                return
        super().handle(database=database, **options)


def _end_others(connection: BaseDatabaseWrapper) -> None:
    """Whoever was killed in a transaction has no more say in what comes, once the server has noticed."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx JOIN information_schema.processlist "
            "ON id = trx_mysql_thread_id WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        )
        for [thread] in cursor.fetchall():
            with suppress(OperationalError):  # it has ended meanwhile
                cursor.execute(f"KILL {thread}")


def _tables(connection: BaseDatabaseWrapper) -> list[str]:
    models = (model for model in apps.get_models(include_auto_created=True) if model._meta.managed)
    return sorted({model._meta.db_table for model in models} - KEPT)


def _sizes(connection: BaseDatabaseWrapper, tables: list[str]) -> dict[str, int]:
    """The tables that are not empty, and the bytes that their files have; 0 on SQLite, which uses them again."""
    quote = connection.ops.quote_name
    postgres = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        if postgres:
            # Whoever was killed in a transaction has no more say in what comes.
            cursor.execute(f"LOCK TABLE {', '.join(map(quote, tables))} IN SHARE ROW EXCLUSIVE MODE")
        size = (lambda table: f"pg_relation_size('{quote(table)}')") if postgres else (lambda table: "0")
        cursor.execute(
            "SELECT "
            + ", ".join(f"CASE WHEN EXISTS (SELECT 1 FROM {quote(table)}) THEN {size(table)} END" for table in tables)
        )
        found = cursor.fetchone()
    return {table: size for table, size in zip(tables, found, strict=True) if size is not None}


def _empty(connection: BaseDatabaseWrapper, tables: list[str]) -> None:
    with connection.constraint_checks_disabled(), connection.cursor() as cursor:  # MariaDB's never wait for the commit
        for table in tables:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")
