"""What the tests of the store share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from tests.integration.store import sessions


@pytest.fixture
def session(transactional_db: None) -> Iterator[sessions.Session]:
    """A second connection to PostgreSQL."""
    other = sessions.Session()
    yield other
    other.rollback()
    other.close()


@pytest.fixture(autouse=True)
def _no_endless_waits(request: pytest.FixtureRequest) -> Iterator[None]:
    """A verb that wrongly waits for a lock of the test's own fails instead of hanging."""
    if connection.vendor != "postgresql" or request.node.get_closest_marker("django_db") is None:
        yield
        return
    request.getfixturevalue("db" if not _is_transactional(request) else "transactional_db")
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '3s'")
    yield
    if connection.connection is not None and connection.is_usable():
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")


def _is_transactional(request: pytest.FixtureRequest) -> bool:
    mark = request.node.get_closest_marker("django_db")
    return bool(mark and mark.kwargs.get("transaction"))
