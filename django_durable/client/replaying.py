"""Whether today's code still repeats what a run has done. Nothing is written, and no side effect is called."""

from __future__ import annotations

from typing import Any

from django_durable.definitions.registry import registry
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine.info import RunInfo
from django_durable.engine.instance import Instance
from django_durable.history.transcript import RunLine, Transcript


def replay(transcript: Transcript, definition: WorkflowDefinition[..., Any] | None = None) -> None:
    """Run the code over the history, up to where it ends or was ended from outside.

    ``definition``: other code than that which is registered under the run's name and version. Raises
    ``NonDeterminismError`` with both sides of the first difference, ``UnreadableEvent``, ``UnknownDefinition``, or
    ``DurableError`` for a history that is none.
    """
    run = transcript.run
    definition = definition or definition_of(run)
    history = transcript.history()
    if len(history) == 1 and history[0].event.is_input:
        return  # nothing of its code has run
    instance = Instance(definition, info_of(run))
    try:
        instance.look(history)
    finally:
        instance.evict()


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
