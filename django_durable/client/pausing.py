"""Letting workflows rest and go on: single ones, and all runs of a workflow by its name."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from uuid import UUID

from django_durable import transports
from django_durable.client import finding, messaging, surroundings
from django_durable.definitions import options as checks
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.exceptions import DurableError
from django_durable.store import database, holds, outages, paused_workflows, runs
from django_durable.store.holds import Held

PATIENCE = 10.0  # seconds to wait for others that keep the workflow's row locked
STEP = 0.02

Workflow = str | WorkflowDefinition[..., object]


def pause_workflow(workflow_id: str, reason: str = "", *, run_id: UUID | None = None) -> bool:
    """Let the open run rest: nothing is applied to it until it is resumed, and messages are kept for it.

    Activities that run end, and their results wait; time limits of the run go on. False: it had ended already.
    Raises ``WorkflowNotFound``, ``ForeignTransaction`` inside a transaction on another database, and ``DurableError``
    if other transactions keep its row locked for ten seconds.
    """
    surroundings.check("pause_workflow()")
    held = _hold(workflow_id, run_id, partial(holds.pause, reason=reason), "paused")
    return held is not None


def resume_workflow(workflow_id: str, *, run_id: UUID | None = None) -> bool:
    """Let a paused run go on. False: it was not paused, or has ended. Raises what ``pause_workflow`` raises."""
    surroundings.check("resume_workflow()")
    return _hold(workflow_id, run_id, holds.resume, "resumed") is Held.DONE


@outages.begins_anew
def _hold(workflow_id: str, run_id: UUID | None, verb: Callable[[UUID], Held], done: str) -> Held | None:
    """None: there is no open run any more."""
    deadline = time.monotonic() + PATIENCE
    while True:
        chain_id = runs.open_chain(workflow_id, run_id=run_id)
        if chain_id is None:
            finding.check(workflow_id)
            return None
        with database.writing():
            held = verb(chain_id)
            if held is Held.DONE:
                database.on_commit(partial(messaging.tell, chain_id))
        if held is not Held.BUSY:
            return held
        if time.monotonic() > deadline:
            raise DurableError(
                f"Workflow {workflow_id!r} could not be {done}: other transactions keep its row locked. Try again "
                "once they have ended."
            )
        time.sleep(STEP)


def pause_definition(workflow: Workflow, reason: str = "") -> bool:
    """Let no worker take runs of a workflow, given by itself or by name, in any of its versions. False: it is so.

    Workers see it within about a second, and give back the runs that they have when these next wait for something.
    Starts and messages go on, and wait. Activities that are scheduled are carried out.
    """
    surroundings.check("pause_definition()")
    name = _name_of(workflow)
    with database.writing():
        return paused_workflows.add(name, reason)


def resume_definition(workflow: Workflow) -> bool:
    """Let workers take runs of a workflow again. False: it was not paused."""
    surroundings.check("resume_definition()")
    name = _name_of(workflow)
    with database.writing():
        resumed = paused_workflows.remove(name)
        if resumed:
            for queue in paused_workflows.queues_of(name):
                database.on_commit(partial(transports.hint_work, queue))
    return resumed


def paused_definitions() -> dict[str, str]:
    """The names of the workflows that are paused, with the reasons."""
    return dict(paused_workflows.rows().values_list("name", "reason"))


def _name_of(workflow: Workflow) -> str:
    name = workflow.name if isinstance(workflow, WorkflowDefinition) else workflow
    checks.check_text(name, what="The name of a workflow")
    return name
