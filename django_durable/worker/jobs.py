"""One attempt of an activity, from the moment a slot is taken for it to its outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django_durable.definitions.activity import ActivityDefinition
from django_durable.history.failures import Failure
from django_durable.payloads.payload import Payload
from django_durable.store import outcomes, tasks


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """An attempt that this process executes. ``held``: by right of a task row; None: as the owner of its run."""

    definition: ActivityDefinition[Any, Any]
    input: Payload
    chain_id: UUID
    run_id: UUID
    workflow_id: str
    sequence: int
    key: str
    worker: int
    attempt: int = 1
    interruptions: int = 0
    held: tasks.Held | None = None
    started: float = 0.0  # time.monotonic()
    deadline: float | None = None  # time.monotonic() at which start_to_close passes
    timed_out: bool = False  # its outcome is decided; only its slot is still taken
    given_up: bool = False  # nobody waits for the result any more
    stopping: bool = False  # the worker is draining
    substitute: Callable[..., Any] | None = None  # what a test runs instead of the activity's function

    @property
    def function(self) -> Callable[..., Any]:
        """What is called with the activity's arguments."""
        return self.substitute or self.definition.function

    @property
    def failures(self) -> int:
        """Attempts that have failed if this one does: interruptions are not counted."""
        return self.attempt - self.interruptions

    @property
    def start_to_close(self) -> timedelta | None:
        return self.definition.options.start_to_close

    @property
    def claim(self) -> outcomes.Claim:
        return outcomes.Claim(self.chain_id, self.key, self.worker, self.attempt)


@dataclass(slots=True, kw_only=True, eq=False)
class Finished:
    """How an attempt ended: with a result, or with a failure that is tried again after ``retry_after`` or final.

    ``lost``: an atomic attempt that was not allowed to commit, because somebody else has decided.
    """

    job: Job
    result: Payload | None = None
    failure: Failure | None = None
    retry_after: timedelta | None = None
    timeout: str | None = None
    lost: bool = False
