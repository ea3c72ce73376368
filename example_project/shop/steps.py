"""A run's history, as steps that a customer understands."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

TITLES = {
    "shop.charge_card": "Charge the card",
    "shop.mark_paid": "Book the payment",
    "shop.pack": "Pack the parcel",
    "shop.invoice": "Write the invoice",
    "shop.send_receipt": "Send the receipt",
}


class HistoryEvent(Protocol):
    """What this page reads of an event of ``handle.history()``."""

    @property
    def sequence(self) -> int: ...
    @property
    def type(self) -> str: ...
    @property
    def time(self) -> datetime: ...
    @property
    def data(self) -> dict[str, Any]: ...


def from_history(history: Iterable[HistoryEvent]) -> list[dict[str, Any]]:
    """One entry for each activity and timer, in the order in which they were begun.

    ``state`` is ``"running"``, ``"done"`` or ``"failed"``; ``started`` and ``ended`` are times, ``ended`` or None.
    """
    steps: dict[int, dict[str, Any]] = {}
    for event in history:
        match event.type:
            case "ActivityScheduled":
                name = event.data["name"]
                steps[event.sequence] = _begun(TITLES.get(name, name), event.time)
            case "TimerStarted":
                steps[event.sequence] = _begun("Wait for the cooling-off time", event.time)
            case "ActivityCompleted":
                steps[event.data["activity"]].update(state="done", ended=event.time)
            case "ActivityFailed":
                steps[event.data["activity"]].update(state="failed", ended=event.time)
            case "TimerFired":
                steps[event.data["timer"]].update(state="done", ended=event.time)
    return list(steps.values())


def _begun(title: str, time: datetime) -> dict[str, Any]:
    return {"title": title, "state": "running", "started": time, "ended": None}
