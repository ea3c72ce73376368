"""What every test may use; fixtures for one kind of test live beside it."""

from __future__ import annotations

import pytest
from django.db import connection


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what asks for the other database, and say so."""
    for item in items:
        for vendor in ("postgres", "sqlite"):
            if item.get_closest_marker(vendor) and not connection.vendor.startswith(vendor):
                item.add_marker(pytest.mark.skip(reason=f"needs {vendor}, runs on {connection.vendor}"))
