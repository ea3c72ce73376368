"""What a requester sees and may do: every read and every act goes through here."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from django.db.models import Q
from django.http import HttpRequest

from django_durable.client import WorkflowHandle
from django_durable.contrib.api import options
from django_durable.contrib.api.problems import Problem
from django_durable.definitions.registry import registry
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.exceptions import UnknownDefinition, WorkflowNotFound
from django_durable.models import WorkflowRun
from django_durable.querysets import RunQuerySet
from django_durable.store import runs, snapshots

INTERNAL = "internal"

ACTIONS: dict[str, bool] = {
    "start": True,
    "read": True,
    "signal": True,
    "query": True,
    "update": True,
    "cancel": True,
    "terminate": True,
    "retry": True,
    "pause": True,
    "resume": True,
    "health": True,
    INTERNAL: False,
    "schedules": False,
    "queues": False,
    "workers": False,
}
"""Whether requesters may, where the project's own hook does not say: nothing that is not theirs alone."""


def may(request: HttpRequest, action: str) -> bool:
    """Whether this requester may do that."""
    hook = options.hook("PERMISSION")
    said = hook(request, action) if hook is not None else None
    return ACTIONS[action] if said is None else bool(said)


def permit(request: HttpRequest, action: str) -> None:
    """Raise a 403 ``Problem`` unless this requester may do that."""
    if not may(request, action):
        raise Problem(403, "forbidden", f"You may not do this: it needs the permission {action!r}.")


def visible(request: HttpRequest) -> RunQuerySet:
    """The runs that this requester may see: of workflows that are in the API, cut down by the project's filter."""
    everything = runs.rows().filter(_in_api())
    hook = options.hook("FILTER")
    if hook is None:
        return everything
    seen: RunQuerySet = hook(request, everything)
    return seen


def sees_all() -> bool:
    """Whether no filter of the project keeps requesters apart."""
    return options.current().FILTER is None


def find(request: HttpRequest, workflow_id: str, *, action: str) -> WorkflowRun:
    """The latest run of ``workflow_id`` that this requester may see, for ``action``.

    Raises ``WorkflowNotFound`` for whatever he may not see, as if it were not there.
    """
    permit(request, action)
    found = snapshots.with_events(visible(request).for_workflow(workflow_id))  # for the cache of statuses
    run = found.first() if workflow_id.isprintable() else None
    if run is None:
        raise gone(workflow_id)
    return run


def gone(workflow_id: str) -> WorkflowNotFound:
    """The error for a workflow that is not there, or not for this requester."""
    return WorkflowNotFound(f"There is no workflow {workflow_id!r}.")


def handle(request: HttpRequest, workflow_id: str, *, action: str) -> WorkflowHandle[Any]:
    """A handle of that run. It never means a later start of the same id, which may be somebody else's."""
    return WorkflowHandle(workflow_id, find(request, workflow_id, action=action).pk)


def definition(name: str) -> WorkflowDefinition[..., Any]:
    """The workflow that a start by name means. Raises a 404 ``Problem`` for one that is not in the API."""
    try:
        found = registry.workflow(name)
    except UnknownDefinition:
        found = None
    if found is None or not found.in_api:
        raise Problem(404, "unknown-workflow", f"There is no workflow called {name!r} here.")
    return found


def names() -> set[str]:
    """The workflows of which at least one version is in the API."""
    return {one.name for one in registry.workflows() if one.in_api}


def is_in_api(name: str, version: str) -> bool:
    """Whether runs of that version of a workflow are in the API."""
    try:
        return registry.workflow(name, version).in_api
    except UnknownDefinition:
        return False


def _in_api() -> Q:
    """Runs of versions that were declared so. A version that this process does not know is not."""
    versions: dict[str, list[str]] = defaultdict(list)
    for one in registry.workflows():
        if one.in_api:
            versions[one.version].append(one.name)
    found = Q(pk__in=[])
    for version, declared in versions.items():
        found |= Q(version=version, name__in=declared)
    return found
