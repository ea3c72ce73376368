"""Activities that wait until the test opens a gate."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from tests.flows import activities

MakeGate = Callable[[str], threading.Event]


@pytest.fixture
def make_gate() -> Iterator[MakeGate]:
    """Makes gates; at the test's end all are open, so that no activity waits for ever."""
    made: list[str] = []

    def make(name: str) -> threading.Event:
        made.append(name)
        return activities.gates.setdefault(name, threading.Event())

    yield make
    for name in made:
        activities.gates[name].set()
