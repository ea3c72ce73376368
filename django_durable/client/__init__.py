"""What callers do with workflows: start, message, end and read them. One transaction each, then a hint."""

from django_durable.client.bulk import (
    BulkResult,
    cancel_workflows,
    pause_workflows,
    resume_workflows,
    retry_failed,
    signal_workflows,
    terminate_workflows,
)
from django_durable.client.completing import complete_activity, fail_activity, heartbeat_activity
from django_durable.client.ending import cancel_workflow, terminate_workflow
from django_durable.client.handle import WorkflowHandle, get_workflow
from django_durable.client.messaging import signal_workflow
from django_durable.client.pausing import (
    pause_definition,
    pause_workflow,
    paused_definitions,
    resume_definition,
    resume_workflow,
)
from django_durable.client.querying import query_workflow
from django_durable.client.queueing import QueueStatus, get_queue, pause_queue, resume_queue, set_queue
from django_durable.client.reading import HistoryEntry, WorkflowStatus, get_workflow_status
from django_durable.client.schedule_handle import ScheduleHandle, ScheduleStatus
from django_durable.client.scheduling import create_schedule, get_schedule
from django_durable.client.starting import start_workflow, start_workflows
from django_durable.client.updating import aupdate_workflow, update_workflow
from django_durable.client.with_start import aupdate_with_start, signal_with_start, update_with_start
from django_durable.engine.stack import StackEntry

__all__ = [
    "BulkResult",
    "HistoryEntry",
    "QueueStatus",
    "ScheduleHandle",
    "ScheduleStatus",
    "StackEntry",
    "WorkflowHandle",
    "WorkflowStatus",
    "aupdate_with_start",
    "aupdate_workflow",
    "cancel_workflow",
    "cancel_workflows",
    "complete_activity",
    "create_schedule",
    "fail_activity",
    "get_queue",
    "get_schedule",
    "get_workflow",
    "get_workflow_status",
    "heartbeat_activity",
    "pause_definition",
    "pause_queue",
    "pause_workflow",
    "pause_workflows",
    "paused_definitions",
    "query_workflow",
    "resume_definition",
    "resume_queue",
    "resume_workflow",
    "resume_workflows",
    "retry_failed",
    "set_queue",
    "signal_with_start",
    "signal_workflow",
    "signal_workflows",
    "start_workflow",
    "start_workflows",
    "terminate_workflow",
    "terminate_workflows",
    "update_with_start",
    "update_workflow",
]
