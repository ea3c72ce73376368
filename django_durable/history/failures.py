"""Exceptions as values: how a failure is stored, and how it is raised again where somebody waits for it."""

from __future__ import annotations

import traceback as traceback_module
from typing import Any

import msgspec

from django_durable.exceptions import ActivityError, ApplicationError, ChildWorkflowError, FailureError

MESSAGE_LIMIT = 4_096  # characters; Temporal's limit for an activity failure is 4 KiB as well
TRACEBACK_LIMIT = 16_384
CAUSES_LIMIT = 5


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of an exception: text only, never an object that reading would have to rebuild."""

    type: str
    message: str = ""
    traceback: str = ""
    cause: Failure | None = None
    non_retryable: bool = False
    data: Any = None


def from_exception(error: BaseException, *, depth: int = 0) -> Failure:
    """Describe ``error`` and its causes. Never raises, whatever the exception's own methods do."""
    return Failure(
        type=_type_of(error),
        message=_printable(_message_of(error), MESSAGE_LIMIT),
        traceback=_printable(_traceback_of(error), TRACEBACK_LIMIT, keep_end=True),
        cause=_cause_of(error, depth) if depth < CAUSES_LIMIT else None,
        non_retryable=bool(getattr(error, "non_retryable", False)) if isinstance(error, ApplicationError) else False,
        data=_data_of(error),
    )


def _cause_of(error: BaseException, depth: int) -> Failure | None:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    behind = from_exception(cause, depth=depth + 1) if cause is not None else None
    if isinstance(error, ActivityError) and error.type:
        # What the activity raised is known by its text only, and is what made the workflow fail.
        return Failure(type=error.type, message=error.message, traceback=error.traceback, cause=behind, data=error.data)
    return behind


def to_exception(failure: Failure) -> FailureError:
    """The failure as an exception, with its chain of causes."""
    error = FailureError(failure.message, type=failure.type, traceback=failure.traceback, data=failure.data)
    error.__cause__ = to_exception(failure.cause) if failure.cause else None
    return error


def activity_error(
    name: str, failure: Failure, *, attempts: int, timeout: str | None = None, interrupted: bool = False
) -> ActivityError:
    """What a workflow sees when an activity has failed for good."""
    error = ActivityError(
        failure.message,
        activity=name,
        type=failure.type,
        traceback=failure.traceback,
        attempts=attempts,
        timeout=timeout,
        interrupted=interrupted,
        data=failure.data,
    )
    error.__cause__ = to_exception(failure.cause) if failure.cause else None
    return error


def child_error(name: str, failure: Failure, *, status: str, workflow_id: str) -> ChildWorkflowError:
    """What a workflow sees when its child has ended without a result."""
    error = ChildWorkflowError(
        failure.message,
        workflow=name,
        workflow_id=workflow_id,
        status=status,
        type=failure.type,
        traceback=failure.traceback,
        data=failure.data,
    )
    error.__cause__ = to_exception(failure)
    return error


def printable(message: str) -> str:
    """A message that every database can hold."""
    return _printable(message, MESSAGE_LIMIT)


def _type_of(error: BaseException) -> str:
    if isinstance(error, ApplicationError) and error.type:
        return str(error.type)
    if isinstance(error, FailureError) and error.type and type(error) is FailureError:
        return error.type
    return type(error).__name__


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:
        return f"<{type(error).__name__} whose text could not be made: {type(broken).__name__}>"


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback_module.format_exception(type(error), error, error.__traceback__, chain=False))
    except BaseException:
        return ""


def _data_of(error: BaseException) -> Any:
    data = getattr(error, "data", None) if isinstance(error, ApplicationError | FailureError) else None
    if data is None:
        return None
    try:
        return msgspec.json.decode(msgspec.json.encode(data))
    except Exception:
        return _printable(repr(type(data)), 200)


def _printable(text: str, limit: int, *, keep_end: bool = False) -> str:
    """Text that every database can hold: no NUL, no lone surrogate, not endless."""
    clean = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
    if len(clean) <= limit:
        return clean
    return "… " + clean[-limit:] if keep_end else clean[:limit] + " …"
