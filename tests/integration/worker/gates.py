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
    made: list[threading.Event] = []

    def make(name: str) -> threading.Event:
        gate = activities.gates[name] = threading.Event()
        made.append(gate)
        return gate

    yield make
    for gate in made:
        gate.set()
