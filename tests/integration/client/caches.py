"""Caches of the tests."""

from __future__ import annotations

import threading
from typing import Any

from django.core.cache.backends.locmem import LocMemCache

TIMEOUTS: list[float | None] = []
CALLS: list[str] = []
STUCK = threading.Event()
"""While it is clear, a ``StuckCache`` does not answer."""


class CountingCache(LocMemCache):
    """Notes for how long entries are kept."""

    def get_backend_timeout(self, timeout: Any = None) -> Any:
        TIMEOUTS.append(timeout)
        return super().get_backend_timeout(timeout)


class BrokenCache(LocMemCache):
    """Its server is down."""

    def get(self, key: Any, default: Any = None, version: Any = None) -> Any:
        CALLS.append("get")
        raise ConnectionError("the cache does not answer")

    def add(self, key: Any, value: Any, timeout: Any = None, version: Any = None) -> Any:
        CALLS.append("add")
        raise ConnectionError("the cache does not answer")

    def set(self, key: Any, value: Any, timeout: Any = None, version: Any = None) -> Any:
        CALLS.append("set")
        raise ConnectionError("the cache does not answer")


class StuckCache(LocMemCache):
    """Its server takes writes and does not answer."""

    def set(self, key: Any, value: Any, timeout: Any = None, version: Any = None) -> Any:
        CALLS.append("set")
        STUCK.wait(60)
        super().set(key, value, timeout, version)
