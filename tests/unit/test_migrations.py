"""Migrations apply while workers of the release before go on: they add, and what they add has a value by itself."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from django.db import migrations
from django.db.models import NOT_PROVIDED

import django_durable.migrations

FOLDER = Path(django_durable.migrations.__file__).parent
FIRST = "0001_initial"
LATER = sorted(path.stem for path in FOLDER.glob("0*.py") if path.stem != FIRST)
HARMLESS = (
    migrations.CreateModel,
    migrations.AddField,
    migrations.AddIndex,
    migrations.RemoveIndex,
    migrations.AlterModelOptions,
    migrations.AlterModelManagers,
    migrations.RunSQL,
    migrations.RunPython,
)


def operations(name: str) -> list[migrations.operations.base.Operation]:
    return list(importlib.import_module(f"django_durable.migrations.{name}").Migration.operations)


@pytest.mark.parametrize("name", LATER)
def test_nothing_is_removed_or_renamed(name):
    for operation in operations(name):
        if isinstance(operation, migrations.AlterField):
            # What was stored before must still be taken: only the text beside a field, or room, may change.
            assert operation.field.null or not operation.field.unique
        else:
            assert isinstance(operation, HARMLESS), operation.describe()


@pytest.mark.parametrize("name", LATER)
def test_code_that_does_not_know_a_new_column_can_insert_rows(name):
    for operation in operations(name):
        if isinstance(operation, migrations.AddField):
            field = operation.field
            has_value = field.null or field.db_default is not NOT_PROVIDED or (field.has_default() and field.null)
            assert has_value, f"{operation.describe()}: it needs null=True or a db_default"
