"""Which workflow and activity a log record is about, as fields of the record, for any formatter that shows these."""

from __future__ import annotations

import logging
from typing import Any

from django_durable.definitions import current
from django_durable.exceptions import DurableError

FIELDS = ("workflow", "workflow_id", "run_id", "activity", "attempt", "queue")
"""What a record of the library's own may have; each only where there is one."""


def running() -> dict[str, Any]:
    """The fields of the activity whose code runs here; empty outside of one."""
    try:
        activity = current.find()
    except DurableError:  # what it is told of the attempt before cannot be read: that is no reason not to log
        return {}
    if activity is None:
        return {}
    return {
        "workflow_id": activity.workflow_id,
        "run_id": str(activity.run_id),
        "activity": activity.name,
        "attempt": activity.attempt,
        "queue": activity.queue,
    }


class ContextFilter(logging.Filter):
    """Gives every record that is written in an activity the fields of that activity, whichever logger wrote it.

    ``missing``: what the fields are set to that a record does not have, for formats that name them all; None: nothing.
    """

    def __init__(self, name: str = "", *, missing: str | None = None) -> None:
        super().__init__(name)
        self._missing = missing

    def filter(self, record: logging.LogRecord) -> bool:
        for field, value in running().items():
            if not hasattr(record, field):
                setattr(record, field, value)
        if self._missing is not None:
            for field in FIELDS:
                if not hasattr(record, field):
                    setattr(record, field, self._missing)
        return super().filter(record)
