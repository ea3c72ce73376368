from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from example_project.shop import steps

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Event:
    sequence: int
    type: str
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def time(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.sequence)


def test_steps_come_in_the_order_in_which_they_began_with_the_state_they_reached():
    history = [
        Event(1, "RunStarted"),
        Event(2, "ActivityScheduled", {"name": "shop.pack"}),
        Event(3, "ActivityScheduled", {"name": "shop.invoice"}),
        Event(4, "ActivityFailed", {"activity": 3}),
        Event(5, "ActivityCompleted", {"activity": 2}),
        Event(6, "TimerStarted", {"duration": 1_000_000}),
    ]

    shown = [(step["title"], step["state"]) for step in steps.from_history(history)]

    assert shown == [
        ("Pack the parcel", "done"),
        ("Write the invoice", "failed"),
        ("Wait for the cooling-off time", "running"),
    ]


def test_a_step_knows_when_it_began_and_ended():
    history = [Event(2, "TimerStarted"), Event(5, "TimerFired", {"timer": 2})]

    (step,) = steps.from_history(history)

    assert (step["started"], step["ended"]) == (BEGINNING + timedelta(seconds=2), BEGINNING + timedelta(seconds=5))


def test_an_activity_without_a_title_is_shown_by_its_name():
    (step,) = steps.from_history([Event(2, "ActivityScheduled", {"name": "shop.wrap"})])

    assert step["title"] == "shop.wrap"
