"""The activity that this thread or task is running."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django_durable.exceptions import ActivityCancelled, DurableError


def _never() -> bool:
    return False


def _beat_in_vain(details: Any) -> None:
    """Nobody takes heartbeats here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentActivity:
    """What an activity may know about its own execution."""

    name: str
    workflow_id: str
    run_id: UUID
    attempt: int
    """Counts from 1; attempts that died with their process count as well."""
    idempotency_key: str
    """The same on every attempt: give it to services that recognise a repeated request."""
    is_cancelled: Callable[[], bool] = field(default=_never, repr=False, compare=False)
    is_stopping: Callable[[], bool] = field(default=_never, repr=False, compare=False)
    on_heartbeat: Callable[[Any], None] = field(default=_beat_in_vain, repr=False, compare=False)
    heartbeat_details: Any = None
    """What the last heartbeat of an attempt before has told, as JSON values; None: nothing."""

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more."""
        return self.is_cancelled()

    def heartbeat(self, details: Any = None) -> None:
        """Tell that this attempt lives, and ``details`` for the next one should this one end early.

        Cheap: heartbeats that follow each other closely are written as one. Raises ``ActivityCancelled`` once nobody
        waits for the result any more, ``PayloadError`` for details that cannot be stored.
        """
        self.on_heartbeat(details)
        if self.cancelled:
            raise ActivityCancelled(f"Activity {self.name} of workflow {self.workflow_id} is not waited for any more.")

    @property
    def stopping(self) -> bool:
        """Whether the worker has been told to stop, and waits for its activities to end."""
        return self.is_stopping()


_current: ContextVar[CurrentActivity | None] = ContextVar("durable_current_activity", default=None)


def current_activity() -> CurrentActivity:
    """The activity that is running here. Raises ``DurableError`` outside of one."""
    current = _current.get()
    if current is None:
        raise DurableError(
            "durable.current_activity() was called outside an activity. It works in code that a worker runs as an "
            "activity; threads that such code starts need contextvars.copy_context()."
        )
    return current


@contextmanager
def entered(current: CurrentActivity) -> Iterator[CurrentActivity]:
    """Make ``current`` the answer of ``current_activity()`` inside the block."""
    token = _current.set(current)
    try:
        yield current
    finally:
        _current.reset(token)
