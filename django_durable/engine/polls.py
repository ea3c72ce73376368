"""What a look of ``ctx.poll()`` has found: it will do, it is looked again, or there have been enough looks.

Judged where the run is live, before anything is recorded: history holds the last look only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from django_durable.definitions.polling import Polling
from django_durable.engine.pending import Pending
from django_durable.exceptions import WorkflowSuspended
from django_durable.history import events, failures
from django_durable.history.failures import Failure

TIMEOUT = "poll"


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """It is to be looked once more, after ``delay``."""

    delay: timedelta


def judge(pending: Pending | None, event: events.Event, looks: int, now: datetime) -> events.Event | Again:
    """What becomes of ``event``, the outcome of a call that has been looked for ``looks`` times before."""
    polling = pending.command.polling if pending is not None else None
    if pending is None or polling is None or pending.stopping:
        return event
    if isinstance(event, events.ActivityFailed) and event.timeout == "schedule_to_close":
        return msgspec.structs.replace(event, timeout=TIMEOUT, attempts=looks + 1)
    if not isinstance(event, events.ActivityCompleted):
        return event
    try:
        if polling.until(polling.definition.decode_result(event.result)):
            return msgspec.structs.replace(event, attempts=looks + 1)
    except WorkflowSuspended:
        raise
    except BaseException as error:  # the user's own function
        return events.ActivityFailed(
            activity=event.activity, failure=failures.from_exception(error), attempts=looks + 1
        )
    if _is_enough(polling, pending, looks + 1, now):
        return _in_vain(polling, event, looks + 1)
    return Again(delay=polling.every)


def _is_enough(polling: Polling[Any, Any], pending: Pending, looks: int, now: datetime) -> bool:
    if polling.attempts is not None and looks >= polling.attempts:
        return True
    return polling.timeout is not None and now + polling.every >= pending.scheduled_at + polling.timeout


def _in_vain(polling: Polling[Any, Any], event: events.ActivityCompleted, looks: int) -> events.ActivityFailed:
    message = f"Activity {polling.definition.name} was looked at {looks} times, and its result did not do."
    failure = Failure(type="TimeoutError", message=message)
    return events.ActivityFailed(activity=event.activity, failure=failure, attempts=looks, timeout=TIMEOUT)
