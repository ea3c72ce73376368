"""Looking at workflows without a worker: their history is replayed here, in memory, and nothing is written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from django_durable.client import finding, interrupting, waiting
from django_durable.definitions.registry import registry
from django_durable.engine.info import RunInfo
from django_durable.engine.instance import Instance
from django_durable.engine.stack import StackEntry
from django_durable.exceptions import (
    NonDeterminismError,
    QueryFailed,
    QueryTooExpensive,
    UnsupportedInWorkflow,
)
from django_durable.models import WorkflowRun
from django_durable.payloads import arguments
from django_durable.store import history

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What looking at one run may cost, beside STUCK_SECONDS for each of its steps; None: anything."""

    seconds: float | None = None
    events: int | None = None


UNLIMITED = Limits()


def query_workflow(workflow_id: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Ask the latest run of ``workflow_id``. Raises ``WorkflowNotFound``, and what ``query`` raises."""
    run = finding.latest(workflow_id)
    return query(run, name, args, kwargs)


def query(
    run: WorkflowRun, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, limits: Limits = UNLIMITED
) -> Any:
    """What the run's handler of that query returns.

    Raises ``QueryFailed`` if it has none, or the handler raises; ``QueryTooExpensive`` beyond ``limits`` and for code
    that never awaits; ``UnsupportedInWorkflow`` if the handler asks for something; ``NonDeterminismError`` if today's
    code does not repeat the history; ``UnknownDefinition`` if this process does not have the workflow;
    ``WouldWaitForever`` inside an open transaction.
    """
    waiting.refuse_in_transaction("query()", run.workflow_id)
    packed = arguments.pack(args, kwargs, what=f"The arguments of query {name!r}")
    what = f"Query {name!r} of {run.name}"
    return _look(run, lambda instance: instance.answer(name, packed), what=what, limits=limits)


def stack(run: WorkflowRun) -> list[StackEntry]:
    """Where each task of the run waits, and what for. Raises as ``query`` does."""
    return _look(run, lambda instance: list(instance.stack()), what=f"The code of {run.name}")


def _look(run: WorkflowRun, look: Callable[[Instance], T], *, what: str, limits: Limits = UNLIMITED) -> T:
    """Replay the run up to where its history ends, and look at it. No step may take longer than STUCK_SECONDS."""
    instance = Instance(registry.workflow(run.name, run.version), _info_of(run))
    _refuse_long(run, limits, what)
    recorded = history.read([run.pk])[run.pk]
    began = time.monotonic()

    def replay_and_look(touch: Callable[[], None]) -> T:
        def step() -> None:
            touch()
            if limits.seconds is not None and time.monotonic() - began > limits.seconds:
                raise QueryTooExpensive(f"{what} had not ended after {limits.seconds:g} s.", limit="seconds")

        try:
            instance.look(recorded, touch=step)
            step()
            return look(instance)
        finally:
            touch()
            instance.evict()

    try:
        return interrupting.bounded(replay_and_look, what=what, stopped=_stopped)
    except (NonDeterminismError, QueryFailed, UnsupportedInWorkflow):
        raise
    except Exception as error:
        raise QueryFailed(f"{what} failed: {type(error).__name__}: {error}", type=type(error).__name__) from error
    finally:
        instance.evict()  # once more, in case that it was stopped just before


def _refuse_long(run: WorkflowRun, limits: Limits, what: str) -> None:
    if limits.events is not None and history.last_sequence(run.pk) > limits.events:
        raise QueryTooExpensive(f"{what} would replay more than {limits.events:,} events.", limit="events")


def _stopped(message: str) -> QueryFailed:
    return QueryTooExpensive(message, limit="seconds", type="WorkflowStuck")


def _info_of(run: WorkflowRun) -> RunInfo:
    return RunInfo(workflow_id=run.workflow_id, run_id=run.pk, chain_id=run.chain_id, name=run.name, queue=run.queue)
