"""Every test here may have workers, and a shop that is quick."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from example_project.shop import gateway, workflows
from tests.integration.worker.running import COMMITTING, configure, make_worker, worker

__all__ = ["configure", "make_worker", "worker"]


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(COMMITTING)


@pytest.fixture
def quick_shop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "COOLING_OFF", timedelta(milliseconds=10))
    monkeypatch.setattr(gateway, "answer_after_a_while", lambda: None)


@pytest.fixture(autouse=True)
def _example_urls(settings: Any) -> None:
    settings.ROOT_URLCONF = "example_project.urls"
