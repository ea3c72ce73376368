"""A second database beside the one of the suite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections

from example_project import database
from tests.integration.worker.running import configure, make_worker, worker

__all__ = ["configure", "make_worker", "worker"]

OTHER = "other"


def pytest_itemcollected(item: pytest.Item) -> None:
    aliases = ["default", OTHER] if "other" in getattr(item, "fixturenames", ()) else ["default"]
    item.add_marker(pytest.mark.django_db(transaction=True, databases=aliases))


@pytest.fixture(scope="module", autouse=True)
def _second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Before a test's databases are looked at."""
    url = database.sqlite_url(tmp_path_factory.mktemp("second") / "other.sqlite3")
    settings: dict[str, Any] = {"default": {}, OTHER: database.from_url(url)}
    connections.settings[OTHER] = connections.configure_settings(settings)[OTHER]
    yield
    del connections.settings[OTHER]


@pytest.fixture
def other(transactional_db: None) -> Iterator[str]:
    """The alias of another SQLite database; it has no tables unless they are made."""
    yield OTHER
    connections[OTHER].close()
