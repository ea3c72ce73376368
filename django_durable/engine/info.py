"""What is known about a run from outside, and what its code may know."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A run's identity, as the store knows it."""

    workflow_id: str
    run_id: UUID
    chain_id: UUID
    name: str
    queue: str
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What ``ctx.info`` gives: only what is the same in every replay."""

    workflow_id: str
    run_id: UUID
    chain_id: UUID
    attempt: int
    started_at: datetime
    """Time of the run's first event, UTC."""
    events: int
    """Length of the history up to and with the input that is being handled."""
    open_handlers: int = 0
    """Handlers of signals and updates that have begun and not ended."""
