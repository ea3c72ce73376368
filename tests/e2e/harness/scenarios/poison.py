"""A workflow that takes its process along, or hangs it: it is parked, and everything else completes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from django_durable import durable
from django_durable.client import WorkflowHandle
from django_durable.definitions.workflow import WorkflowCall
from django_durable.history.status import Status
from django_durable.store.claims import PARK_AFTER
from django_durable.worker.worker import EXIT_STUCK
from tests.e2e.harness import verdict, waiting
from tests.e2e.harness.stage import Stage, staged
from tests.flows import workflows

EXIT = 9
LEASE = 2.0
HANG_LEASE = 3.0
STEPS, SECONDS = 6, 0.05
LIMIT = 150.0


def crashing(url: str, *, workflows_: int, watch: float = 0.0) -> dict[str, Any]:
    """Its code ends the process: after five deaths it is parked as what it is.

    ``watch``: for how many seconds it is looked at afterwards; tried again after half a minute, it may cost one more.
    """
    with staged(url, concurrency=8, settings={"LEASE_SECONDS": LEASE}) as stage:
        figures = _run(stage, workflows.exits.call(EXIT), "crashing", EXIT, workflows_, watch)
    assert figures["workers lost"] <= PARK_AFTER + bool(watch), f"it took {figures['workers lost']} workers"
    return figures


def hanging(url: str, *, workflows_: int) -> dict[str, Any]:
    """Its code hangs in C, where nothing can be injected: the process names it and ends, once."""
    settings = {"LEASE_SECONDS": HANG_LEASE, "STUCK_SECONDS": 0.5}
    with staged(url, concurrency=8, settings=settings) as stage:
        figures = _run(stage, workflows.hangs.call(3_600.0), "stuck", EXIT_STUCK, workflows_)
    assert figures["workers lost"] == 1, f"it took {figures['workers lost']} workers"
    return figures


def _run(
    stage: Stage, poison: WorkflowCall, reason: str, code: int, workflows_: int, watch: float = 0.0
) -> dict[str, Any]:
    """Half of the ordinary work before the poison, half behind it; a supervisor replaces what has ended."""
    began = time.monotonic()
    stage.work.add(workflows_ // 2, steps=STEPS, seconds=SECONDS)
    [poisonous] = durable.start_workflows([poison])
    stage.work.add(workflows_ - workflows_ // 2, steps=STEPS, seconds=SECONDS)
    for _ in range(2):
        stage.fleet.start()
    supervisor = partial(_replace, stage, code)
    stage.work.wait(seconds=LIMIT, check=supervisor)
    completed = time.monotonic() - began
    waiting.until(lambda: _is_parked(poisonous, supervisor), "the poisonous run to be parked", seconds=LIMIT, step=0.2)
    parked = time.monotonic() - began
    while time.monotonic() < began + parked + watch:
        supervisor()
        time.sleep(waiting.STEP)
    waiting.until(lambda: _is_parked(poisonous, supervisor), "it to be parked again", seconds=LIMIT, step=0.2)
    lost = sum(worker.exit_code == code for worker in stage.fleet.all)
    status = poisonous.status()
    assert status.blocked is not None
    assert status.blocked["reason"] == reason, status.blocked
    poisonous.terminate("poison")
    return {
        **verdict.check(stage.work, stage.fleet, quiet=False),
        "workers lost": lost,
        "others completed after": f"{completed:.0f} s",
        "parked after": f"{parked:.0f} s",
    }


def _replace(stage: Stage, code: int) -> None:
    """A supervisor: whoever has ended with the code that the poison makes is started again."""
    for worker in stage.fleet.all:
        if worker.exit_code == code and worker.expected is None:
            worker.expected = code
            waiting.say(f"{worker} has ended with code {code}; another one is started")
            stage.fleet.start()
    stage.fleet.check()


def _is_parked(poisonous: WorkflowHandle[Any], supervisor: Callable[[], None]) -> bool:
    supervisor()
    return poisonous.status().status is Status.BLOCKED
