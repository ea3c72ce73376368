"""One attempt of an activity, from the moment a slot is taken for it to its outcome."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from django_durable.definitions.activity import ActivityDefinition
from django_durable.history.failures import Failure
from django_durable.payloads.payload import Payload
from django_durable.store import outcomes, tasks


class Pulse(Protocol):
    """Takes the heartbeats of attempts, from whatever thread they come."""

    def beat(self, job: Job) -> None:
        """``job`` lives; its details may have changed."""

    def open(self, job: Job) -> None:
        """Give ``job`` a row of its own, so that whoever gets its token finds one."""


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
    queue: str = ""
    attempt: int = 1
    interruptions: int = 0
    held: tasks.Held | None = None
    headers: Payload | None = None  # what surrounded the start of its run
    looks: int = 0  # of ctx.poll() that were made before this one
    failure: str | None = None  # of the attempt before, as its row has it
    expires_at: datetime | None = None  # when schedule_to_close passes, by the database's clock
    last_details: Payload | None = None  # of the last heartbeat of an attempt before
    details: Payload | None = None  # of this attempt's last heartbeat
    pulse: Pulse | None = None  # who takes its heartbeats
    started: float = 0.0  # time.monotonic()
    beat_at: float = 0.0  # of the last heartbeat, or of the start
    expires: float | None = None  # of the end of schedule_to_close
    next_beat: float = 0.0  # before which no other heartbeat is written, in seconds of the database's time
    wants_row: bool = False  # somebody has asked for its token
    beat_waits: bool = False  # a heartbeat is to be written
    written: threading.Event | None = None  # set when it is
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
    def is_abandoned(self) -> bool:
        """Whether it goes on when nobody waits for it any more."""
        return self.definition.options.cancellation == "abandon"

    @property
    def attempt_left(self) -> timedelta | None:
        """What is left of its start_to_close."""
        limit = self.definition.options.start_to_close
        if limit is None or not self.started:
            return limit
        return max(limit - timedelta(seconds=time.monotonic() - self.started), timedelta(0))

    def deadline(self) -> tuple[float, str] | None:
        """When the attempt is overdue, as ``time.monotonic()``, and by which of its timeouts; None: never."""
        options = self.definition.options
        if options.start_to_close is None and options.heartbeat is None and self.expires is None:
            return None
        limits = []
        if options.start_to_close is not None:
            limits.append((self.started + options.start_to_close.total_seconds(), "start_to_close"))
        if options.heartbeat is not None:
            limits.append((self.beat_at + options.heartbeat.total_seconds(), "heartbeat"))
        if self.expires is not None:
            limits.append((self.expires, "schedule_to_close"))
        return min(limits, default=None)

    @property
    def claim(self) -> outcomes.Claim:
        return outcomes.Claim(self.chain_id, self.key, self.worker, self.attempt)


@dataclass(slots=True, kw_only=True, eq=False)
class Finished:
    """How an attempt ended: with a result, or with a failure that is tried again after ``retry_after`` or final.

    ``interrupted``: its process died, and it is not to be tried again. ``later``: its outcome will come by token.
    ``lost``: nobody waits for it any more, or an atomic attempt was not allowed to commit, because somebody else has
    decided.
    """

    job: Job
    result: Payload | None = None
    failure: Failure | None = None
    retry_after: timedelta | None = None
    timeout: str | None = None
    interrupted: bool = False
    lost: bool = False
    later: bool = False
    told: bool = False  # its failure is in the log
