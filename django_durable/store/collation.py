"""How MariaDB compares our text: exactly, whatever the project's own tables do, unless it is asked not to.

Django creates tables in the database's default collation, in which "order-a" may be "Order-Á " as well: two workflows
would be one. The tables are converted after each migrate, because every later one may have added some.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import CharField, Model, TextField
from django.db.models.lookups import IContains

from django_durable.store import mariadb


def hold_exactly(sender: AppConfig, using: str, **kwargs: Any) -> None:
    """Convert those tables of the app on this database that compare text in another way: after ``migrate``."""
    own = connections[using]
    if own.vendor == "mysql":
        for table in inexact(own, [model._meta.db_table for model in sender.get_models()]):
            with own.cursor() as cursor:
                cursor.execute(
                    f"ALTER TABLE {own.ops.quote_name(table)} CONVERT TO CHARACTER SET utf8mb4 "
                    f"COLLATE {mariadb.COLLATION}"
                )


def inexact(own: BaseDatabaseWrapper, tables: Iterable[str]) -> list[str]:
    """Those of these tables, or of their columns, that have another collation than ours."""
    wanted = list(tables)
    places = ", ".join(["%s"] * len(wanted))
    with own.cursor() as cursor:
        cursor.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() "
            f"AND table_name IN ({places}) AND table_collation <> %s UNION "
            "SELECT table_name FROM information_schema.columns WHERE table_schema = DATABASE() "
            f"AND table_name IN ({places}) AND collation_name <> %s",
            [*wanted, mariadb.COLLATION, *wanted, mariadb.COLLATION],
        )
        return sorted(name for [name] in cursor.fetchall())


class ContainsInAnyCase(IContains):
    """``icontains``, which Django leaves to the column's collation: ours would mind case."""

    def as_mysql(self, compiler: Any, connection: BaseDatabaseWrapper) -> Any:
        lhs, lhs_params = self.process_lhs(compiler, connection)
        rhs, rhs_params = self.process_rhs(compiler, connection)
        return f"LOWER({lhs}) {self.get_rhs_op(connection, f'LOWER({rhs})')}", [*lhs_params, *rhs_params]


def search_in_any_case(models: Iterable[type[Model]]) -> None:
    """Let ``icontains`` mean on the texts of these models what it means on other databases."""
    for model in models:
        for field in model._meta.concrete_fields:
            if isinstance(field, CharField | TextField):
                field.register_lookup(ContainsInAnyCase)
