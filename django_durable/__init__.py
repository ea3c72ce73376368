"""Durable workflows for Django. ``durable`` is what applications use; see ``docs/`` for the rest."""

from django_durable.api import durable
from django_durable.definitions.retry import Retry
from django_durable.definitions.schedule import Calendar, Schedule
from django_durable.engine.batches import BatchItem, BatchResult
from django_durable.engine.context import Context
from django_durable.exceptions import (
    ActivityError,
    ApplicationError,
    BatchError,
    DefinitionError,
    DurableError,
    FailureError,
    NonDeterminismError,
    OptionNotSupported,
    PayloadError,
    QueryFailed,
    RetryAfter,
    ScheduleAlreadyExists,
    ScheduleNotFound,
    UnknownDefinition,
    UnsupportedInWorkflow,
    UpdateFailed,
    UpdateRejected,
    WorkflowAlreadyStarted,
    WorkflowCancelled,
    WorkflowClosed,
    WorkflowFailed,
    WorkflowNotFound,
    WorkflowTerminated,
    WorkflowTimedOut,
    WorkflowUnsuccessful,
    WouldWaitForever,
)

__version__ = "0.1.0"

__all__ = [
    "durable",
    "Context",
    "BatchResult",
    "BatchItem",
    "Retry",
    "Schedule",
    "Calendar",
    "ApplicationError",
    "RetryAfter",
    "DurableError",
    "DefinitionError",
    "UnknownDefinition",
    "OptionNotSupported",
    "PayloadError",
    "WorkflowNotFound",
    "WorkflowClosed",
    "WorkflowAlreadyStarted",
    "ScheduleNotFound",
    "ScheduleAlreadyExists",
    "WorkflowUnsuccessful",
    "WorkflowFailed",
    "WorkflowCancelled",
    "WorkflowTerminated",
    "WorkflowTimedOut",
    "UpdateRejected",
    "UpdateFailed",
    "QueryFailed",
    "WouldWaitForever",
    "NonDeterminismError",
    "UnsupportedInWorkflow",
    "FailureError",
    "ActivityError",
    "BatchError",
]
