"""Recorded histories hold tokens that no secret has signed, so that they can be made again anywhere."""

from __future__ import annotations

import pytest

from django_durable.engine import callbacks


@pytest.fixture(autouse=True)
def unsigned_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks._Source, "make", staticmethod(callbacks._unsigned))
