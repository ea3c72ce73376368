"""``crash_everywhere``: the process dies after each write of a run, and the run must end as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
from django.db import connections, transaction

from django_durable import instrumentation
from django_durable.client import reading
from django_durable.client.handle import WorkflowHandle
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.exceptions import WorkflowUnsuccessful
from django_durable.store import database, runs
from django_durable.testing import environments
from django_durable.testing.environments import Environment
from django_durable.testing.hands import Killed

Meanwhile = Callable[[Environment, WorkflowHandle[Any]], object]


def crash_everywhere(
    definition: WorkflowDefinition[..., Any], /, *args: Any, meanwhile: Meanwhile | None = None, **kwargs: Any
) -> int:
    """Run a workflow again and again, killing the worker after each of its writes in turn, then after all of them.

    Each time a new worker goes on with what the database holds. Returns how many writes there were. Raises
    ``AssertionError`` if the run does not end every time as it does when nobody dies. ``meanwhile(env, handle)`` is
    called after each start, to signal, cancel or let time pass. Everything is rolled back in the end; what activities
    do outside the database is done again in every run, and mocks are called again.
    """
    with _environment() as env, _undone(env):
        handle = env.start(definition, *args, **kwargs)
        with _undone(env), _deaths(set()) as straight:
            expected = _end(env, handle, meanwhile)
        for write in range(1, straight.writes + 1):
            with _undone(env), _deaths({write}):
                _compare(expected, _end(env, handle, meanwhile), f"after write {write} of {straight.writes}", handle)
        with _undone(env), _deaths(None):
            _compare(expected, _end(env, handle, meanwhile), "after every write", handle)
    return straight.writes


@contextmanager
def _environment() -> Iterator[Environment]:
    current = environments.current()
    if current is not None:
        yield current
        return
    with environments.environment() as env:
        yield env


@contextmanager
def _undone(env: Environment) -> Iterator[None]:
    """Whatever happens in the block never was, for the environment and all databases."""
    moment = env.now()
    env.let_go()
    with ExitStack() as stack:
        for own in connections.all(initialized_only=True):
            stack.enter_context(transaction.atomic(using=own.alias))
            stack.callback(transaction.set_rollback, True, using=own.alias)
        stack.enter_context(database.adopting())
        try:
            yield
        finally:
            env.let_go()
    env.turn_back(moment)


class _Deaths:
    """Counts writes, and kills after those that are wanted; None: after all."""

    def __init__(self, wanted: set[int] | None) -> None:
        self.writes = 0
        self._wanted = wanted

    def hear(self, *, runs: int, **_: Any) -> None:
        if not runs:
            return  # something was in the way: nothing is written
        self.writes += 1
        if self._wanted is None or self.writes in self._wanted:
            raise Killed


@contextmanager
def _deaths(wanted: set[int] | None) -> Iterator[_Deaths]:
    deaths = _Deaths(wanted)
    instrumentation.flush_done.connect(deaths.hear, weak=False)
    try:
        yield deaths
    finally:
        instrumentation.flush_done.disconnect(deaths.hear)


def _end(env: Environment, handle: WorkflowHandle[Any], meanwhile: Meanwhile | None) -> dict[str, Any]:
    """How the run ends, in plain values."""
    if meanwhile is not None:
        meanwhile(env, handle)
    try:
        handle.result()
    except WorkflowUnsuccessful:
        pass
    run = runs.latest_of_chain(handle.run_id)
    assert run is not None
    failure = reading.failure_of(run)
    return _without_ids(
        handle,
        {
            "status": str(run.status),
            "result": reading.plain(run.result),
            "failure": [failure.type, failure.message] if failure else None,
        },
    )


def _without_ids(handle: WorkflowHandle[Any], ended: dict[str, Any]) -> dict[str, Any]:
    """Runs that follow in the chain, and children, have other ids each time: they are told by their order instead."""
    text = msgspec.json.encode(ended).decode()
    begun = runs.rows().filter(pk__gte=handle.run_id).order_by("pk").values_list("pk", flat=True)
    for number, run_id in enumerate(begun):
        text = text.replace(str(run_id), f"<run {number}>").replace(run_id.hex, f"<run {number}>")
    plain: dict[str, Any] = msgspec.json.decode(text)
    return plain


def _compare(expected: dict[str, Any], found: dict[str, Any], when: str, handle: WorkflowHandle[Any]) -> None:
    if found == expected:
        return
    history = "\n".join(f"  {entry.sequence} {entry.type} {entry.data}" for entry in handle.history())
    raise AssertionError(
        f"Workflow {handle.workflow_id!r} ends differently if its worker dies {when}:\n  {found}\ninstead of\n"
        f"  {expected}\nIts history then:\n{history}"
    )
