"""Runs a program straight, without the instance cache, and with workers that die: it must make no difference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any
from uuid import UUID

from django.db import transaction
from django.test import override_settings

from django_durable import instrumentation
from django_durable.client import WorkflowHandle
from django_durable.exceptions import WorkflowUnsuccessful
from django_durable.history import events
from django_durable.history.status import Status
from django_durable.models import WorkflowRun
from django_durable.store import history
from django_durable.testing import Environment, assert_replays
from django_durable.testing.hands import Killed
from tests.integration.worker.invariants import assert_family, assert_invariants
from tests.programs import generator
from tests.programs.interpreter import interpret

SIGNALS = 2
Ending = dict[str, Any]


def check(env: Environment, seed: int) -> int:
    """Returns how many events the program's runs had. Raises ``AssertionError`` if it matters how it was run."""
    straight = _run(env, seed)
    with override_settings(DURABLE={"INSTANCE_CACHE_SIZE": 0}):
        uncached = _run(env, seed)
    assert uncached == straight, _told("without the instance cache", seed, uncached, straight)
    with _deaths(Random(seed)):
        crashed = _run(env, seed)
    for one in (crashed, straight):
        one["kinds"].sort()  # of several activities under way, another may end first
    assert crashed == straight, _told("when workers die", seed, crashed, straight)
    return len(straight["kinds"])


def _told(when: str, seed: int, found: Ending, expected: Ending) -> str:
    program = generator.program(seed)
    return f"program {seed} ends differently {when}: {program}\n  {found}\ninstead of\n  {expected}"


def _run(env: Environment, seed: int) -> Ending:
    with transaction.atomic():
        handle = env.start(interpret, generator.program(seed))
        for number in range(SIGNALS):
            handle.signal("go", number)
    try:
        handle.result()
    except WorkflowUnsuccessful:
        pass
    env.run_until_idle()
    runs = _family(handle.run_id)
    kinds = []
    for run in runs:
        own: WorkflowHandle[Any] = WorkflowHandle(run.workflow_id, run.pk)
        assert_invariants(own)
        assert_family(own)
        recorded = history.read([run.pk])[run.pk]
        if events.ended_from_outside(recorded[-1].event) is None:
            assert_replays(own)
        kinds += [type(one.event).__name__ for one in recorded]
    (last,) = [run for run in runs if run.chain_id == handle.run_id and run.status != Status.CONTINUED_AS_NEW]
    failure = last.failure and str(last.failure).partition("traceback")[0]
    return {"status": str(last.status), "result": last.result, "failure": failure, "kinds": kinds}


def _family(run_id: UUID) -> list[WorkflowRun]:
    """The runs of a chain, each followed by its children's."""
    runs = []
    for run in WorkflowRun.objects.filter(chain_id=run_id).order_by("pk"):
        runs.append(run)
        for child in WorkflowRun.objects.filter(parent_run_id=run.pk, continued_from=None).order_by("parent_key"):
            runs += _family(child.pk)
    return runs


@contextmanager
def _deaths(random: Random) -> Iterator[None]:
    def hear(*, runs: int, **_: Any) -> None:
        if runs and random.random() < 0.3:
            raise Killed

    instrumentation.flush_done.connect(hear, weak=False)
    try:
        yield
    finally:
        instrumentation.flush_done.disconnect(hear)
