"""What reads annotations at run time, such as containers of dependencies and documentation, finds all they name."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import QuerySet

from django_durable import BatchResult, Context, Retry, Schedule, durable
from django_durable.client import BulkResult, ScheduleHandle, WorkflowHandle, WorkflowStatus
from django_durable.definitions.activity import ActivityDefinition
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.models import WorkflowRun

USED = [durable, Context, WorkflowHandle, ScheduleHandle, WorkflowStatus, BatchResult, Retry, Schedule]
DECLARED = [WorkflowDefinition, ActivityDefinition]
VERBS = [
    pytest.param(getattr(owner, name), id=f"{getattr(owner, '__name__', 'durable')}.{name}")
    for owner in [*USED, *DECLARED]
    for name in dir(owner)
    if not name.startswith("_") and callable(getattr(owner, name))
]


@pytest.mark.parametrize("verb", VERBS)
def test_the_annotations_of_a_verb_are_found(verb: Callable[..., Any]) -> None:
    typing.get_type_hints(verb)


def test_they_are_the_types_themselves() -> None:
    assert typing.get_type_hints(durable.get_workflow_status)["return"] is WorkflowStatus
    hints = typing.get_type_hints(durable.acancel_workflows)
    assert (hints["queryset"], hints["return"]) == (QuerySet[WorkflowRun], BulkResult)
