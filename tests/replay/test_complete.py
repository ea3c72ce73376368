"""Every kind of event has a recorded history."""

from __future__ import annotations

from django_durable.history import events
from tests.replay.stories import HERE, read

FROM_OUTSIDE = {"RunTerminated", "RunTimedOut"}
"""Written without the code, so never replayed."""

DUE = {
    "CallbackOpened",
    "RunPaused",
    "RunReset",
    "RunResumed",
}
"""Events that are on their way: whoever adds one records a history with it, and takes its name off this list."""

RECORDED = {type(item.event).__name__ for path in HERE.glob("*.json") for item in read(path)}


def test_every_event_that_is_replayed_has_a_recorded_history():
    assert set(events.TYPES) - FROM_OUTSIDE - RECORDED <= DUE


def test_no_history_ends_from_outside():
    assert FROM_OUTSIDE & RECORDED == set()
