"""Starting workflows: plain rows in the caller's transaction, so both commit or neither does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django_durable import instrumentation
from django_durable.client import announcing, handle, new_runs, placing, surroundings
from django_durable.definitions.workflow import WorkflowCall, WorkflowDefinition
from django_durable.store import database, outages, starts


def start_workflow(
    definition: WorkflowDefinition[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    schedule: str | None = None,
    run_id: UUID | None = None,
    digest: str | None = None,
) -> handle.WorkflowHandle[Any]:
    """Write a run into the caller's transaction and return its handle at once.

    ``run_id``: what its id is to be; ``digest``: what is kept with it, for the caller to know his start by.

    Raises ``PayloadError`` or ``TypeError`` for arguments that do not fit, before anything is written, and
    ``WorkflowAlreadyStarted`` as the policies ``on_conflict`` and ``on_reuse`` say.
    """
    surroundings.check("start_workflow()")
    with instrumentation.starting(name=name_of(definition)):
        new = new_runs.of_call(definition, args, kwargs, run_id=run_id, digest=digest)._replace(schedule=schedule)
        started = placing.insert(new, definition)
        if started.is_new:
            announcing.announce([new])
    return handle.WorkflowHandle(started.workflow_id, started.run_id, definition)


def start_workflows(calls: Iterable[WorkflowCall]) -> list[handle.WorkflowHandle[Any]]:
    """Start many runs in one transaction; the handles come in the order of the calls.

    Either all are started or, at the first that cannot be, none.
    """
    surroundings.check("start_workflows()")
    wanted_calls = list(calls)
    if not wanted_calls:
        return []
    _check_calls(wanted_calls)
    with instrumentation.starting(name=name_of(wanted_calls[0].definition)):
        return _start_all(wanted_calls)


def _check_calls(calls: Iterable[object]) -> None:
    for call in calls:
        if isinstance(call, WorkflowDefinition):
            raise TypeError(f"start_workflows() takes calls: give it {call.__name__}.call(...) instead of {call!r}.")
        if not isinstance(call, WorkflowCall):
            raise TypeError(f"start_workflows() takes calls, such as process_order.call(1), not {call!r}.")


@outages.begins_anew
def _start_all(calls: Sequence[WorkflowCall]) -> list[handle.WorkflowHandle[Any]]:
    wanted = [(call.definition, new_runs.of_call(call.definition, call.args, call.kwargs)) for call in calls]
    started: dict[UUID, placing.Started] = {}
    with database.writing():
        plain = [new for definition, new in wanted if not _may_collide(definition)]
        starts.insert_many(plain)
        # In the order of the ids, so that two bulk starts cannot wait for each other.
        named = [pair for pair in wanted if _may_collide(pair[0])]
        for definition, new in sorted(named, key=_order):
            started[new.run_id] = placing.insert(new, definition)
    led_to = [started.get(new.run_id) or placing.as_wanted(new) for _, new in wanted]
    announcing.announce([new for (_, new), one in zip(wanted, led_to, strict=True) if one.is_new])
    return [
        handle.WorkflowHandle(one.workflow_id, one.run_id, definition)
        for (definition, _), one in zip(wanted, led_to, strict=True)
    ]


def _may_collide(definition: WorkflowDefinition[..., Any]) -> bool:
    return definition.options.may_collide or definition.options.debounce is not None


def _order(wanted: tuple[WorkflowDefinition[..., Any], starts.NewRun]) -> tuple[str, str, str]:
    definition, new = wanted
    return new_runs.debounce_key(definition) or "", new.open_singleton or "", new.workflow_id


def name_of(definition: object) -> str:
    """Of what is to be started; that it is no workflow at all is found later, and said better."""
    return str(getattr(definition, "name", "?"))
