"""Runs by the workflow ids that callers know them by."""

from __future__ import annotations

from django_durable.exceptions import WorkflowNotFound
from django_durable.models import WorkflowRun
from django_durable.store import runs


def latest(workflow_id: str) -> WorkflowRun:
    """The latest run of ``workflow_id``, open or closed. Raises ``WorkflowNotFound``."""
    run = runs.latest(workflow_id)
    if run is None:
        raise unknown(workflow_id)
    return run


def check(workflow_id: str) -> None:
    """Raise ``WorkflowNotFound`` unless there is a run of ``workflow_id``, open or closed."""
    latest(workflow_id)


def unknown(workflow_id: str) -> WorkflowNotFound:
    """The error for an id that no run has."""
    return WorkflowNotFound(f"There is no workflow {workflow_id!r}. Was its start rolled back?")
