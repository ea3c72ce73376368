"""What the tests of environments share."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_durable.testing import environments


@pytest.fixture(autouse=True)
def _slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may take its time before the environment's clock follows the real one."""
    monkeypatch.setattr(environments, "LEAD", timedelta(seconds=30))
