"""Every error of this library, as one tree.

::

    DurableError
    ├── DefinitionError                what was declared cannot work
    │   └── UnknownDefinition
    ├── PayloadError                   a value cannot be stored, or does not fit its annotation
    │   └── PayloadUnreadable          a key or a codec is missing: what is stored cannot be read here
    ├── WorkflowNotFound
    │   └── InvalidToken               a token that nobody here has signed
    ├── WorkflowClosed
    ├── AlreadyCompleted               a token of an activity that has its outcome
    ├── WorkflowAlreadyStarted
    ├── ScheduleNotFound
    ├── ScheduleAlreadyExists
    ├── WorkflowUnsuccessful           what ``result()`` raises
    │   ├── WorkflowFailed
    │   ├── WorkflowCancelled
    │   ├── WorkflowTerminated
    │   └── WorkflowTimedOut
    ├── UpdateRejected                 the workflow refused an update: nothing has happened
    ├── UpdateFailed                   the handler of an update raised, or its run ended
    ├── KeyReused                      an idempotency key that came with something else before
    ├── QueryFailed                    a query has no handler, or its handler raised
    │   └── QueryTooExpensive          it was stopped, or not begun: too slow, or too long a history
    ├── WouldWaitForever               a waiting verb inside an open ``atomic()``
    │   └── WaitsInVain                in a test: what a run waits for does not come
    ├── WorkBatchFailed                a batch of work had no database, or its worker broke down
    ├── NonDeterminismError            code asked for something else than history holds
    ├── UnsupportedInWorkflow          a call that cannot be replayed
    ├── ForeignTransaction             a start or a message inside a transaction on another database than ours
    ├── ForeignWrite                   an atomic activity wrote to another database than the workflows'
    ├── FailureError                   what arrives inside a workflow
    │   ├── ActivityError
    │   ├── BatchError                 more of a batch has failed than may
    │   └── ChildWorkflowError
    └── ApplicationError               what activities raise to say more than a plain exception
        └── RetryAfter

    BaseException
    ├── ActivityCancelled              raised by heartbeat() in an activity that nobody waits for any more
    ├── ActivityCompletesLater         raised by complete_later(): the outcome will come by token
    ├── WorkflowSuspended              never to be caught by workflow code
    │   ├── WorkflowEvicted
    │   └── WorkflowStuck
    └── WorkflowContinuedAsNew         unwinds the code that has called ctx.continue_as_new()
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from datetime import timedelta
from typing import Any


class DurableError(Exception):
    """The root of the tree. A copy, and what pickle makes of it in another process, is the same with its cause."""

    def __reduce__(self) -> Any:
        # Python's own calls the class with the message alone, which is too little for many, and drops the cause.
        state = {"__cause__": _portable(self.__cause__), "__suppress_context__": self.__suppress_context__}
        return _again, (type(self), self.args), {**vars(self), **state}


def _again(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    return kind.__new__(kind, *args)


def _portable(cause: BaseException | None) -> BaseException | None:
    """``cause``, or None for one that pickle cannot carry: better the error alone than another one in its place."""
    if cause is None or isinstance(cause, DurableError):
        return cause
    try:
        pickle.loads(pickle.dumps(cause))
    except Exception:
        return None
    return cause


class DefinitionError(DurableError):
    """A workflow, activity or signal was declared in a way that cannot work."""


class UnknownDefinition(DefinitionError):
    """No workflow or activity of that name is registered in this process."""


class PayloadError(DurableError):
    """A value cannot be stored, or a stored value does not fit the annotation that it is read with."""


class PayloadUnreadable(PayloadError):
    """A stored value cannot be read in this process, which says nothing of the value: a key or a codec is missing."""


class WorkflowNotFound(DurableError):
    """No run has this workflow id."""


class InvalidToken(WorkflowNotFound):
    """The token was not signed with this project's ``SECRET_KEY``, nor with one of ``SECRET_KEY_FALLBACKS``."""


class AlreadyCompleted(DurableError):
    """The activity or callback of this token has its outcome, or its workflow waits for it no more."""


class WorkflowClosed(DurableError):
    """The workflow has ended, so it takes no more messages."""


class WorkflowAlreadyStarted(DurableError):
    """The workflow id is taken, and the policy of the start says that this is an error."""

    def __init__(self, message: str, *, workflow_id: str, run_id: Any = None) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id
        self.run_id = run_id


class ScheduleNotFound(DurableError):
    """No schedule has this name."""


class ScheduleAlreadyExists(DurableError):
    """Another schedule has this name."""


class WorkflowUnsuccessful(DurableError):
    """The run ended without a result. ``__cause__`` holds what made it end, where there is one."""

    def __init__(self, message: str, *, workflow_id: str, run_id: Any = None) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id
        self.run_id = run_id

    @property
    def cause(self) -> BaseException | None:
        return self.__cause__


class WorkflowFailed(WorkflowUnsuccessful):
    """The workflow's code raised. ``type`` and ``message`` are those of its exception."""

    def __init__(
        self, message: str, *, workflow_id: str, run_id: Any = None, type: str = "", traceback: str = ""
    ) -> None:
        super().__init__(message, workflow_id=workflow_id, run_id=run_id)
        self.type = type
        self.message = message
        self.traceback = traceback


class WorkflowCancelled(WorkflowUnsuccessful):
    """The run ended because somebody cancelled it."""


class WorkflowTerminated(WorkflowUnsuccessful):
    """The run was ended from outside without a chance to clean up."""


class WorkflowTimedOut(WorkflowUnsuccessful):
    """The run's own time limit passed."""


class _UpdateError(DurableError):
    def __init__(
        self,
        message: str,
        *,
        workflow_id: str = "",
        update_id: str = "",
        type: str = "",
        traceback: str = "",
        data: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.workflow_id = workflow_id
        self.update_id = update_id
        self.type = type
        self.traceback = traceback
        self.data = data

    @property
    def cause(self) -> BaseException | None:
        return self.__cause__


class UpdateRejected(_UpdateError):
    """The workflow refused an update before anything happened: its validator raised, or it has no such handler.

    ``type`` and ``message`` are those of the refusal.
    """


class UpdateFailed(_UpdateError):
    """The handler of an update raised, or its run ended before it was done.

    ``type`` and ``message`` are those of the exception.
    """


class QueryFailed(DurableError):
    """A query could not be answered: the workflow has no handler for it, or the handler raised or took too long.

    ``type`` is the name of the handler's exception, empty if there is none; ``cause`` the exception itself.
    """

    def __init__(self, message: str, *, type: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.type = type

    @property
    def cause(self) -> BaseException | None:
        return self.__cause__


class QueryTooExpensive(QueryFailed):
    """The replay for a query took too long, or was not begun. ``limit`` says which one passed: seconds or events."""

    def __init__(self, message: str, *, limit: str, type: str = "") -> None:
        super().__init__(message, type=type)
        self.limit = limit


class KeyReused(DurableError):
    """An idempotency key has come before, with something else to do."""


class WouldWaitForever(DurableError):
    """A verb that waits for a worker was called inside an open transaction whose rows no worker can see yet."""


class WaitsInVain(WouldWaitForever, TimeoutError):
    """In a test's environment a run waits for something that nobody will send. The message says for what."""


class WorkBatchFailed(DurableError):
    """``work_batch`` could not work: the database did not answer, its tables are missing, or the worker broke down."""


class NonDeterminismError(DurableError):
    """Replaying the history, the workflow's code asked for something else than the history holds.

    ``event`` is the sequence of the first event that does not fit, ``recorded`` what history holds there,
    ``requested`` what the code asked for, ``where`` the line of workflow code, as ``file:line``.
    """

    def __init__(
        self, message: str, *, event: int | None = None, recorded: str = "", requested: str = "", where: str = ""
    ) -> None:
        super().__init__(message)
        self.event = event
        self.recorded = recorded
        self.requested = requested
        self.where = where


class UnsupportedInWorkflow(DurableError):
    """Workflow code called something that cannot be replayed. The message names the right way."""


class ForeignTransaction(DurableError):
    """A verb inside a transaction on another database: what it does would not be a part of that transaction."""


class ForeignWrite(DurableError):
    """An atomic activity wrote to another database than the one that its completion is committed to."""


class FailureError(DurableError):
    """Something that a workflow waited for has failed. ``cause`` is the failure behind it, if any."""

    def __init__(self, message: str, *, type: str = "", traceback: str = "", data: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.type = type
        self.traceback = traceback
        self.data = data

    @property
    def cause(self) -> BaseException | None:
        return self.__cause__


class ActivityError(FailureError):
    """An activity failed for good.

    ``type`` and ``message`` are those of the last attempt's exception, ``attempts`` how many attempts were made,
    ``timeout`` which of its timeouts passed (``"start_to_close"``, ``"schedule_to_start"``, ``"schedule_to_close"``,
    ``"heartbeat"``) or None, ``interrupted`` whether it failed because the processes that ran it died.
    """

    def __init__(
        self,
        message: str,
        *,
        activity: str = "",
        type: str = "",
        traceback: str = "",
        attempts: int = 1,
        timeout: str | None = None,
        interrupted: bool = False,
        data: Any = None,
    ) -> None:
        super().__init__(message, type=type, traceback=traceback, data=data)
        self.activity = activity
        self.attempts = attempts
        self.timeout = timeout
        self.interrupted = interrupted


class BatchError(FailureError):
    """Of a batch more has failed than may. ``errors`` are those of its items, ``cause`` is the first of them."""

    def __init__(self, message: str, *, errors: Sequence[BaseException] = ()) -> None:
        super().__init__(message)
        self.errors = list(errors)


class ChildWorkflowError(FailureError):
    """A child workflow has ended without a result, or could not be started.

    ``type`` and ``message`` say what it failed with, ``status`` how it ended: failed, cancelled, terminated or
    timed_out; empty if it was not started because its id is taken (``type`` is ``WorkflowAlreadyStarted`` then).
    """

    def __init__(
        self,
        message: str,
        *,
        workflow: str = "",
        workflow_id: str = "",
        status: str = "",
        type: str = "",
        traceback: str = "",
        data: Any = None,
    ) -> None:
        super().__init__(message, type=type, traceback=traceback, data=data)
        self.workflow = workflow
        self.workflow_id = workflow_id
        self.status = status


class ApplicationError(DurableError):
    """Raise this in an activity or a workflow to say more about a failure than a plain exception can.

    ``type`` is the name that retry policies and callers see (default: the class name), ``non_retryable`` ends the
    retries, ``data`` is any JSON value.
    """

    def __init__(
        self, message: str = "", *, type: str | None = None, non_retryable: bool = False, data: Any = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.type = type
        self.non_retryable = non_retryable
        self.data = data


class RetryAfter(ApplicationError):
    """Raise this in an activity to be tried again after ``delay`` instead of after the policy's interval."""

    def __init__(self, message: str = "", *, delay: timedelta, type: str | None = None, data: Any = None) -> None:
        super().__init__(message, type=type, data=data)
        self.delay = delay


class ActivityCancelled(BaseException):
    """Nobody waits for this activity any more: it should clean up and end.

    A ``BaseException``, so that ``except Exception`` cannot swallow it.
    """


class ActivityCompletesLater(BaseException):
    """What ``current_activity().complete_later()`` raises. A ``BaseException``, so that it is not swallowed."""


class WorkflowSuspended(BaseException):
    """Workflow code is being stopped from outside. A ``BaseException``: ``except Exception`` cannot swallow it."""


class WorkflowEvicted(WorkflowSuspended):
    """The run leaves this process's memory; it goes on elsewhere from its history."""


class WorkflowContinuedAsNew(BaseException):
    """What ``ctx.continue_as_new()`` raises. A ``BaseException``: ``except Exception`` cannot swallow it.

    ``input``: the stored arguments of the next run.
    """

    def __init__(self, input: Any) -> None:
        super().__init__("The workflow continues as new.")
        self.input = input


class WorkflowStuck(WorkflowSuspended):
    """The workflow's code ran for too long without awaiting anything."""
