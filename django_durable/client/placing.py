"""The places that a new run takes, its workflow id, keys and subject; or who has them, as its policies say."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple
from uuid import UUID

from django_durable.client import announcing, ending, new_runs
from django_durable.definitions.workflow import WorkflowDefinition, WorkflowOptions
from django_durable.exceptions import DurableError, WorkflowAlreadyStarted
from django_durable.history.status import Status
from django_durable.store import database, debounces, outages, runs, starts

TRIES = 5  # the run in the way may end between the insert and the look at it
REPLACED = "Replaced by a new run of the same id or singleton key."


class Started(NamedTuple):
    """The run that a start has led to, its own or another one."""

    workflow_id: str
    run_id: UUID
    is_new: bool = False


def as_wanted(new: starts.NewRun) -> Started:
    """The run that was to be started."""
    return Started(new.workflow_id, new.run_id, is_new=True)


@outages.begins_anew
def insert(new: starts.NewRun, definition: WorkflowDefinition[..., Any]) -> Started:
    """Insert the run, or find the one that its policies accept in its place. Raises ``WorkflowAlreadyStarted``."""
    debounce, key = definition.options.debounce, new_runs.debounce_key(definition)
    if debounce is None or key is None:
        return _insert(new, definition)
    with database.writing():
        place = debounces.lock(key)
        waiting = debounces.push_back(place, new, wait=debounce.wait)
        delayed = new._replace(delay=debounce.wait)
        announcing.announce_delays([delayed])
        if waiting is not None:
            return Started(*waiting)
        started = _insert(delayed, definition)
        if started.is_new:
            debounces.take(place, new.run_id, max_wait=debounce.max_wait)
        return started


def _insert(new: starts.NewRun, definition: WorkflowDefinition[..., Any]) -> Started:
    if definition.options.on_conflict != "terminate_existing":
        return _try_to_insert(new, definition)
    with database.writing():  # what a start replaces goes on if the start comes to nothing
        return _try_to_insert(new, definition)


def _try_to_insert(new: starts.NewRun, definition: WorkflowDefinition[..., Any]) -> Started:
    replaced: set[str] = set()  # their ends are no reason to refuse the id
    for _ in range(TRIES):
        # Looked for first: on MariaDB two inserts that meet what both are to replace would then wait for each other.
        taken = _in_the_way(new) if definition.options.on_conflict == "terminate_existing" else None
        if taken is None and _starts(new, definition, replaced):
            return as_wanted(new)
        taken = taken or _in_the_way(new)
        if taken is None:
            _check_subject(new, definition.options)
            continue
        if taken.run_id == new.run_id:  # an earlier try of this very start was committed after all
            return taken
        match definition.options.on_conflict:
            case "use_existing":
                return taken
            case "terminate_existing":
                if ending.terminate_workflow(taken.workflow_id, REPLACED):
                    replaced.add(taken.workflow_id)
            case _:
                raise WorkflowAlreadyStarted(
                    _already(new, taken, definition), workflow_id=taken.workflow_id, run_id=taken.run_id
                )
    raise DurableError(
        f"Workflow {new.workflow_id!r} could not be started: its id keeps being taken and given up. Try again."
    )


def _starts(new: starts.NewRun, definition: WorkflowDefinition[..., Any], replaced: Collection[str]) -> bool:
    """Whether the run could be inserted, and may be."""
    with database.writing():
        inserted = starts.insert(new)
        if inserted and definition.options.workflow_id is not None and new.workflow_id not in replaced:
            _check_reuse(new, definition.options.on_reuse)
        return inserted


def in_the_way(definition: WorkflowDefinition[..., Any]) -> UUID | None:
    """The open run that a start of this definition would meet; None: there is none now."""
    options, key = definition.options, new_runs.singleton_key(definition)
    taken = runs.open_run(options.workflow_id) if options.workflow_id is not None else None
    other = runs.open_singleton(key) if taken is None and key is not None else None
    return other[1] if other is not None else taken


def _in_the_way(new: starts.NewRun) -> Started | None:
    """The open run that has the workflow id, or else the singleton key."""
    taken = runs.open_run(new.workflow_id)
    if taken is not None:
        return Started(new.workflow_id, taken)
    other = runs.open_singleton(new.open_singleton) if new.open_singleton is not None else None
    return Started(*other) if other is not None else None


def _already(new: starts.NewRun, taken: Started, definition: WorkflowDefinition[..., Any]) -> str:
    if taken.workflow_id == new.workflow_id:
        return (
            f"Workflow {new.workflow_id!r} is running already (run {taken.run_id}). Use another workflow_id, or "
            "on_conflict='use_existing' or 'terminate_existing'."
        )
    return (
        f"Workflow {taken.workflow_id!r} is running already (run {taken.run_id}) with the singleton_key "
        f"{definition.options.singleton_key!r} of {definition.name}. Wait for its end, or use "
        "on_conflict='use_existing' or 'terminate_existing'."
    )


def _check_subject(new: starts.NewRun, options: WorkflowOptions) -> None:
    """Raise if it is the subject, not the workflow id, that another run has taken."""
    if new.open_subject is None or options.subject is None:
        return
    other = runs.open_about(options.subject)
    if other is not None:
        raise WorkflowAlreadyStarted(
            f"Workflow {other.workflow_id!r} ({other.name}) is running already for {options.subject.type} "
            f"{options.subject.id} (run {other.pk}), and one_per_subject allows one run at a time for the same "
            f"subject. Wait for its end, signal it, or start this one without one_per_subject.",
            workflow_id=other.workflow_id,
            run_id=other.pk,
        )


def _check_reuse(new: starts.NewRun, on_reuse: str) -> None:
    """Raise, and so undo the insert, if the id's last run forbids another one."""
    if on_reuse == "allow":
        return
    before = runs.latest_closed_status(new.workflow_id, apart_from=new.run_id)
    if before is None or (on_reuse == "allow_if_failed" and before is not Status.COMPLETED):
        return
    raise WorkflowAlreadyStarted(
        f"Workflow {new.workflow_id!r} has run before (it is {before}), and on_reuse={on_reuse!r} forbids another run. "
        "Use another workflow_id, or on_reuse='allow'.",
        workflow_id=new.workflow_id,
    )
