"""The statuses of a run and the legal moves between them."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    TIMED_OUT = "timed_out"
    CONTINUED_AS_NEW = "continued_as_new"


CLOSED = frozenset(
    {
        Status.COMPLETED,
        Status.FAILED,
        Status.CANCELLED,
        Status.TERMINATED,
        Status.TIMED_OUT,
        Status.CONTINUED_AS_NEW,
    }
)
OPEN = frozenset(Status) - CLOSED

MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset(Status) - {Status.PENDING},
    Status.RUNNING: frozenset({Status.PAUSED, Status.BLOCKED}) | CLOSED,
    Status.PAUSED: frozenset({Status.RUNNING, Status.BLOCKED}) | CLOSED,
    Status.BLOCKED: frozenset({Status.RUNNING, Status.PAUSED}) | CLOSED,
    **{status: frozenset[Status]() for status in CLOSED},
}


def before(new: Status) -> frozenset[Status]:
    """The statuses from which a run may become ``new``, and ``new`` itself: whoever writes a status asks for these."""
    return frozenset({new, *(status for status, moves in MOVES.items() if new in moves)})
