"""A database of its own for each test, apart from pytest's: worker processes use it too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tests.e2e.harness import databases, stage


@pytest.fixture(autouse=True)
def few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several of these tests run at once, and a server takes a hundred connections unless it is told otherwise."""
    monkeypatch.setattr(stage, "MOST_SLOTS", 4)


@pytest.fixture
def unblocked(django_db_blocker: Any) -> Iterator[None]:
    """This process may use whatever database the test connects it to."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def fresh_url(unblocked: None) -> Iterator[str]:
    """A new, empty database of the kind that the suite runs on."""
    server = "" if connection.vendor == "sqlite" else os.environ["DURABLE_TEST_DATABASE_URL"]
    with databases.fresh(server) as url:
        yield url
