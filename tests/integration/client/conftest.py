"""Every test here may have workers and gates."""

from __future__ import annotations

import pytest

from tests.integration.worker.gates import make_gate
from tests.integration.worker.running import COMMITTING, configure, make_worker, worker

__all__ = ["configure", "make_gate", "make_worker", "worker"]


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(COMMITTING)
