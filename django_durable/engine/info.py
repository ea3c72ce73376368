"""What is known about a run from outside, and what its code may know."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django_durable.history.events import Parent

EVENTS_HINT = 4_000
"""Events from which on a run should continue as new: its replay takes a noticeable time then."""
BYTES_HINT = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A run's identity, as the store knows it."""

    workflow_id: str
    run_id: UUID
    chain_id: UUID
    name: str
    queue: str
    blocks: bool = False
    """Whether a fault of its code blocks it, instead of failing it."""


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
    bytes: int = 0
    """Its size, as characters of its stored form."""
    continued_from: UUID | None = None
    """The run before this one in its chain."""
    parent: Parent | None = None
    """Whose child it is: ``workflow_id`` and ``run_id``; None: nobody's."""
    open_handlers: int = 0
    """Handlers of signals and updates that have begun and not ended."""

    @property
    def should_continue_as_new(self) -> bool:
        """Whether the history has become so long that the run should continue as new at the next good moment."""
        return self.events >= EVENTS_HINT or self.bytes >= BYTES_HINT
