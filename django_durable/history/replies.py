"""How far an update has come."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    SENT = "sent"
    """It waits for the workflow."""
    ACCEPTED = "accepted"
    """Its handler has begun."""
    COMPLETED = "completed"
    """There is a result."""
    FAILED = "failed"
    """Its handler has raised, or the run has ended under it."""
    REJECTED = "rejected"
    """The workflow has refused it; no handler was called."""
    MISSED = "missed"
    """The workflow ended before it got there; no handler was called."""


ANSWERED = frozenset(State) - {State.SENT, State.ACCEPTED}
