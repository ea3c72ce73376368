"""Looking at workflows without a worker: their history is replayed here, in memory, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django_durable.client import interrupting, waiting
from django_durable.definitions.registry import registry
from django_durable.engine.info import RunInfo
from django_durable.engine.instance import Instance
from django_durable.engine.stack import StackEntry
from django_durable.exceptions import (
    NonDeterminismError,
    QueryFailed,
    UnsupportedInWorkflow,
    WorkflowNotFound,
)
from django_durable.models import WorkflowRun
from django_durable.payloads import arguments
from django_durable.store import history, runs

T = TypeVar("T")


def query_workflow(workflow_id: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Ask the latest run of ``workflow_id``. Raises ``WorkflowNotFound``, and what ``query`` raises."""
    run = runs.latest(workflow_id)
    if run is None:
        raise WorkflowNotFound(f"There is no workflow {workflow_id!r}. Was its start rolled back?")
    return query(run, name, args, kwargs)


def query(run: WorkflowRun, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the run's handler of that query returns.

    Raises ``QueryFailed`` if it has none, or the handler raises; ``UnsupportedInWorkflow`` if the handler asks for
    something; ``NonDeterminismError`` if today's code does not repeat the history; ``UnknownDefinition`` if this
    process does not have the workflow; ``WouldWaitForever`` inside an open transaction.
    """
    waiting.refuse_in_transaction("query()", run.workflow_id)
    packed = arguments.pack(args, kwargs, what=f"The arguments of query {name!r}")
    return _look(run, lambda instance: instance.answer(name, packed), what=f"Query {name!r} of {run.name}")


def stack(run: WorkflowRun) -> list[StackEntry]:
    """Where each task of the run waits, and what for. Raises as ``query`` does."""
    return _look(run, lambda instance: list(instance.stack()), what=f"The code of {run.name}")


def _look(run: WorkflowRun, look: Callable[[Instance], T], *, what: str) -> T:
    """Replay the run up to where its history ends, and look at it. No step may take longer than STUCK_SECONDS."""
    instance = Instance(registry.workflow(run.name, run.version), _info_of(run))
    recorded = history.read([run.pk])[run.pk]

    def replay_and_look(touch: Callable[[], None]) -> T:
        try:
            instance.look(recorded, touch=touch)
            touch()
            return look(instance)
        finally:
            touch()
            instance.evict()

    try:
        return interrupting.bounded(replay_and_look, what=what)
    except (NonDeterminismError, QueryFailed, UnsupportedInWorkflow):
        raise
    except Exception as error:
        raise QueryFailed(f"{what} failed: {type(error).__name__}: {error}", type=type(error).__name__) from error
    finally:
        instance.evict()  # once more, in case that it was stopped just before


def _info_of(run: WorkflowRun) -> RunInfo:
    return RunInfo(workflow_id=run.workflow_id, run_id=run.pk, chain_id=run.chain_id, name=run.name, queue=run.queue)
