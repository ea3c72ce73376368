"""Why a run does not go on, in words."""

from __future__ import annotations

from uuid import UUID

from django_durable.client import reading
from django_durable.definitions.registry import registry
from django_durable.engine.instance import Instance, RunInfo
from django_durable.engine.stack import StackEntry
from django_durable.exceptions import UnknownDefinition
from django_durable.history import blocking
from django_durable.history.status import Status
from django_durable.models import WorkflowRun
from django_durable.store import history, runs


def is_blocked(run_id: UUID) -> bool:
    return runs.rows().filter(pk=run_id, status=Status.BLOCKED).exists()


def why_it_waits(workflow_id: str, run_id: UUID) -> str:
    """What the run waits for, as a sentence or two."""
    run = runs.rows().get(pk=run_id)
    block = blocking.decode(run.blocked)
    if block is not None:
        where = f" ({block.where})" if block.where else ""
        return f"Workflow {workflow_id!r} is blocked{where}: {block.message}"
    wanted = _wanted(run)
    return (
        f"Workflow {workflow_id!r} ({run.name}) is {reading.status_of(run).status} and waits for something that does "
        f"not come by itself: {wanted}."
    )


def _wanted(run: WorkflowRun) -> str:
    try:
        definition = registry.workflow(run.name, run.version)
    except UnknownDefinition:
        return f"a definition of {run.name} in this process"
    info = RunInfo(workflow_id=run.workflow_id, run_id=run.pk, chain_id=run.chain_id, name=run.name, queue=run.queue)
    instance = Instance(definition, info)
    try:
        instance.replay(history.read([run.pk])[run.pk])
        waits = instance.stack()
    finally:
        instance.evict()
    return ", ".join(map(_place, waits)) or "nothing that anybody could send"


def _place(wait: StackEntry) -> str:
    return f"{wait.waits_for} (at {wait.file}:{wait.line})" if wait.file else wait.waits_for
