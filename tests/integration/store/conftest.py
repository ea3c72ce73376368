"""What the tests of the store share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from tests.integration.store import sessions

LIMIT = {"postgresql": "SET lock_timeout = '3s'", "mysql": "SET SESSION innodb_lock_wait_timeout = 3"}
NO_LIMIT = {"postgresql": "RESET lock_timeout", "mysql": "SET SESSION innodb_lock_wait_timeout = DEFAULT"}


@pytest.fixture
def session(transactional_db: None) -> Iterator[sessions.Session]:
    """A second connection to the server."""
    other = sessions.Session()
    yield other
    other.rollback()
    other.close()


@pytest.fixture(autouse=True)
def _no_endless_waits(request: pytest.FixtureRequest) -> Iterator[None]:
    """A verb that wrongly waits for a lock of the test's own fails instead of hanging."""
    if connection.vendor == "sqlite" or request.node.get_closest_marker("django_db") is None:
        yield
        return
    request.getfixturevalue("db" if not _is_transactional(request) else "transactional_db")
    with connection.cursor() as cursor:
        cursor.execute(LIMIT[connection.vendor])
    yield
    if connection.connection is not None and connection.is_usable():
        with connection.cursor() as cursor:
            cursor.execute(NO_LIMIT[connection.vendor])


def _is_transactional(request: pytest.FixtureRequest) -> bool:
    mark = request.node.get_closest_marker("django_db")
    return bool(mark and mark.kwargs.get("transaction"))
