"""What every test may use; fixtures for one kind of test live beside it."""

from __future__ import annotations

import gc
from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import LazySettings, settings
from django.db import connection

from django_durable.store import partitions
from tests.e2e.harness.databases import PARTITIONED

# While settings are overridden they are gone for a moment, and threads of workers read them: they find these then.
LazySettings._wrapped = vars(settings)["_wrapped"]  # type: ignore[attr-defined]

VENDORS = {"postgres": "postgresql", "mariadb": "mysql", "sqlite": "sqlite"}
"""What a mark asks for, and what Django calls it."""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Commits to the test database do not wait for the disk: only `tests/e2e` has servers crash, and its own."""
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(f'ALTER DATABASE "{connection.settings_dict["NAME"]}" SET synchronous_commit = off')
            connection.close()  # it holds for new connections
            if PARTITIONED:
                partitions.introduce(datetime.now(UTC))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what asks for another database, and say so."""
    for item in items:
        if item.get_closest_marker("server") and connection.vendor == "sqlite":
            item.add_marker(pytest.mark.skip(reason="needs a server that locks rows, runs on sqlite"))
        for name, vendor in VENDORS.items():
            if item.get_closest_marker(name) and connection.vendor != vendor:
                item.add_marker(pytest.mark.skip(reason=f"needs {name}, runs on {connection.vendor}"))


def pytest_collection_finish() -> None:
    """Collections of garbage, which many tests ask for, pass by what has been imported and collected until now."""
    gc.collect()
    gc.freeze()
