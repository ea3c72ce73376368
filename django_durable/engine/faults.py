"""Exceptions of a workflow's code: what somebody meant to happen, and faults."""

from __future__ import annotations

import asyncio

from django_durable.engine.continuing import HistoryTooLong
from django_durable.exceptions import ApplicationError, FailureError

MEANT = (ApplicationError, FailureError, HistoryTooLong, asyncio.CancelledError)
"""What the code, an activity or a child says has failed, and what other code could not go on with either."""


def is_fault(error: BaseException) -> bool:
    """Whether other code might do better. A group of exceptions is a fault if one of them is."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(is_fault, error.exceptions))
    return not isinstance(error, MEANT)
