"""Queries replay the user's code in the web process: how much of that there may be at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django_durable.client.querying import Limits
from django_durable.contrib.api import options
from django_durable.contrib.api.problems import Problem

RETRY_AFTER = 1  # seconds

_lock = threading.Lock()
_running = 0


def limits() -> Limits:
    """What one query may cost."""
    allowed = options.current()
    return Limits(seconds=allowed.QUERY_SECONDS, events=allowed.QUERY_EVENTS)


@contextmanager
def place() -> Iterator[None]:
    """One of the process's places for queries. Raises a 429 ``Problem`` if all are taken: nobody waits in line."""
    global _running
    with _lock:
        if _running >= options.current().QUERY_CONCURRENCY:
            raise Problem(
                429,
                "too-many-queries",
                "This server answers as many queries as it may at a time. Try again soon.",
                headers={"Retry-After": str(RETRY_AFTER)},
            )
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
