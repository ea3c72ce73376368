"""The time limits of activities in words, and what follows when one has passed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django_durable.definitions.activity import ActivityDefinition
from django_durable.history.failures import Failure

LAST = "schedule_to_close"  # the limit of all attempts together: none follows
_WORDS = {
    "start_to_close": "took longer than its start_to_close",
    "schedule_to_start": "was not begun within its schedule_to_start",
    "schedule_to_close": "had no outcome within its schedule_to_close",
    "timeout": "was not fulfilled within its timeout",
    "heartbeat": "sent no heartbeat within its heartbeat timeout",
}


def failure(
    name: str, timeout: str, limit: timedelta | None, *, cause: Failure | None = None, kind: str = "Activity"
) -> Failure:
    """What a passed time limit is for the workflow. ``cause``: why the attempt before has failed."""
    amount = f" of {limit}" if limit is not None else ""
    return Failure(type="TimeoutError", message=f"{kind} {name} {_WORDS[timeout]}{amount}.", cause=cause)


def limit_of(definition: ActivityDefinition[Any, Any], timeout: str) -> timedelta | None:
    limit: timedelta | None = getattr(definition.options, timeout)
    return limit
