"""What may become of a program in which several things end at the same moment.

Which of them is first is then the world's choice: an activity that is cancelled at the moment at which it ends has
ended before, or has not. So histories are not compared; but what has happened in each must be something that can.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.programs.telling import Entry, Told


def assert_legal(told: Told) -> None:
    """Every answer is what its request has earned, and the answers of a child are what the child has come to."""
    for label, entries in told.runs.items():
        for entry in entries:
            match entry.type:
                case "ActivityCompleted" | "ActivityFailed":
                    _assert_earned(entry, stopped=_is_stopped(entry.fields["activity"], entries))
                case "ChildCompleted" | "ChildFailed":
                    possible = list(_ends_of(entry.fields["child"], told))
                    assert entry.fields.get("result", entry.fields.get("status")) in possible, (label, entry, possible)


def _assert_earned(entry: Entry, *, stopped: bool) -> None:
    asked: Entry = entry.fields["activity"]
    if stopped and entry.type == "ActivityFailed" and entry.fields["failure"]["type"] == "CancelledError":
        return
    failure = entry.fields.get("failure") or {"type": "", "message": entry.fields.get("result")}
    found = failure["type"], failure["message"], entry.fields["timeout"] if failure["type"] else None
    assert any(_fits(found, one) for one in _earned(asked)), entry


def _earned(asked: Entry) -> list[tuple[str, Any, str | None]]:
    """Type of the failure, if it is one; what the failure says, or the result; and which timeout has passed."""
    if asked.type == "CallbackOpened":
        name = asked.fields["name"]
        return [("", name, None), ("Broken", name, None), ("TimeoutError", ..., "timeout")]
    path = asked.fields["input"]["path"]
    match asked.fields["name"]:
        case "programs.refuse":
            return [("ValueError", path, None)]
        case "programs.ask":
            return [("", None, None)]
        case "programs.look":
            return [("", True, None)]
    return [("", path, None)]


def _fits(found: tuple[Any, ...], earned: tuple[Any, ...]) -> bool:
    return all(one in (other, ...) for one, other in zip(earned, found, strict=True))


def _is_stopped(asked: Entry, entries: list[Entry]) -> bool:
    """Whether the workflow has asked the activity to end, and waited for that."""
    return any(one.type == "ActivityCancelRequested" and one.fields["activity"] == asked for one in entries)


def _ends_of(asked: Entry, told: Told) -> Iterator[Any]:
    """What the runs of a child have come to: a result or a status."""
    path = asked.fields["input"]["path"]
    for (own, number), entries in told.runs.items():
        if own.startswith(path):
            yield entries[-1].fields.get("result") or told.statuses[own, number]
