"""Whether today's code still repeats what a run has done. Nothing is written, and no side effect is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_durable.client import interrupting
from django_durable.definitions.registry import registry
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine.info import RunInfo
from django_durable.engine.instance import Instance
from django_durable.engine.replay import only_started
from django_durable.exceptions import DurableError
from django_durable.history.transcript import RunLine, Transcript


def replay(
    transcript: Transcript, definition: WorkflowDefinition[..., Any] | None = None, *, seconds: float | None = None
) -> None:
    """Run the code over the history, up to where it ends or was ended from outside.

    ``definition``: other code than that which is registered under the run's name and version. ``seconds``: how long
    one step may take; None: STUCK_SECONDS. Raises ``NonDeterminismError`` with both sides of the first difference,
    ``UnreadableEvent``, ``UnknownDefinition``, or ``DurableError`` for a history that is none, and for a step that
    takes longer, with the line of the code.
    """
    run = transcript.run
    definition = definition or definition_of(run)
    history = transcript.history()
    if only_started(history):
        return  # nothing of its code is recorded
    instance = Instance(definition, info_of(run))

    def look(touch: Callable[[], None]) -> None:
        try:
            instance.look(history, touch=touch)
        finally:
            touch()
            instance.evict()

    what = f"The code of run {run.run_id} of workflow {run.name}"
    try:
        interrupting.bounded(look, what=what, stopped=DurableError, seconds=seconds)
    finally:
        instance.evict()  # once more, in case that it was stopped just before


def definition_of(run: RunLine) -> WorkflowDefinition[..., Any]:
    """The registered code of a run. Raises ``UnknownDefinition``."""
    return registry.workflow(run.name, run.version)


def info_of(run: RunLine) -> RunInfo:
    """What a worker would tell the code about its run."""
    return RunInfo(
        workflow_id=run.workflow_id,
        run_id=run.run_id,
        chain_id=run.chain_id,
        name=run.name,
        queue=run.queue,
    )
