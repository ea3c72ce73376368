"""Why a run does not go on, in words."""

from __future__ import annotations

from uuid import UUID

from django_durable.client import reading, replaying
from django_durable.engine.instance import Instance
from django_durable.engine.stack import StackEntry
from django_durable.exceptions import UnknownDefinition
from django_durable.history import blocking
from django_durable.history.status import Status
from django_durable.models import WorkflowRun
from django_durable.store import history, queues, runs, transcripts


def is_blocked(run_id: UUID) -> bool:
    """Whether the chain of this run waits for other code."""
    state = runs.chain_state(run_id)
    return state is not None and state.status == Status.BLOCKED


def why_it_waits(run_id: UUID) -> str:
    """What the chain of this run waits for, as a sentence or two."""
    run = runs.latest_of_chain(run_id)
    if run is None:
        return f"There is no run {run_id}. Was its start rolled back?"
    block = blocking.decode(run.blocked)
    if block is not None:
        where = f" ({block.where})" if block.where else ""
        return f"Workflow {run.workflow_id!r} is blocked{where}: {block.message}"
    if queues.read_one(run.queue).paused:
        return (
            f"Workflow {run.workflow_id!r} waits in the queue {run.queue!r}, which is paused: durable.resume_queue()."
        )
    return (
        f"Workflow {run.workflow_id!r} ({run.name}) is {reading.status_of(run).status} and waits for something that "
        f"does not come by itself: {_wanted(run)}."
    )


def _wanted(run: WorkflowRun) -> str:
    line = transcripts.line_of(run)
    try:
        instance = Instance(replaying.definition_of(line), replaying.info_of(line))
    except UnknownDefinition:
        return f"a definition of {run.name} in this process"
    try:
        instance.look(history.read([run.pk])[run.pk])
        waits = instance.stack()
    finally:
        instance.evict()
    return ", ".join(map(_place, waits)) or "nothing that anybody could send"


def _place(wait: StackEntry) -> str:
    return f"{wait.waits_for} (at {wait.file}:{wait.line})" if wait.file else wait.waits_for
