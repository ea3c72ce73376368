"""Callers that wait for the replies to their updates while the workers that carry them out are killed."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

from django.db import connections

from django_durable import durable
from django_durable.client import WorkflowHandle
from tests.e2e.harness import verdict, waiting
from tests.e2e.harness.stage import staged
from tests.flows import workflows
from tests.integration.worker.invariants import assert_all_invariants

WORKERS = 2
LEASE = 3.0


def run(
    url: str, *, workflows_: int, updates: int, kills: int, every: float = 1.5, limit: float = 200.0, seed: int = 1
) -> dict[str, Any]:
    """Each workflow has one caller, who sends ``updates`` updates, each of which takes an activity."""
    chance = random.Random(seed)
    with staged(url, concurrency=8, settings={"LEASE_SECONDS": LEASE}) as stage:
        fleet = stage.fleet
        stage.start_workers(WORKERS)
        handles = durable.start_workflows([workflows.generations.call() for _ in range(workflows_)])
        answers: dict[str, list[int]] = {handle.workflow_id: [] for handle in handles}
        callers = [
            threading.Thread(target=_call, args=(handle, answers[handle.workflow_id], updates, limit))
            for handle in handles
        ]
        for caller in callers:
            caller.start()
        for _ in range(kills):
            time.sleep(every)
            assert any(caller.is_alive() for caller in callers), "all was answered: give the callers more to ask"
            victim = chance.choice(fleet.running)
            victim.kill()
            fleet.start()
            fleet.check()
        for caller in callers:
            caller.join(limit)
        wrong = {key: got for key, got in answers.items() if got != list(range(1, updates + 1))}
        assert not wrong, f"updates were lost, or carried out twice: {wrong}"
        waiting.say(f"{workflows_ * updates} updates were answered")
        for handle in handles:
            assert handle.using(timeout=limit).update("finish") == updates
            assert handle.result(timeout=limit) == updates
        assert_all_invariants(handles)
        verdict.nothing_left()
        fleet.check()
        return {"updates": workflows_ * updates, "kills": kills}


def _call(handle: WorkflowHandle[Any], got: list[int], updates: int, limit: float) -> None:
    """Every other update is sent twice with the same id, as a caller would after an error of the network."""
    try:
        for number in range(updates):
            once = handle.using(update_id=f"update-{number}", timeout=limit)
            got.append(once.update("count"))
            if number % 2:
                assert once.update("count") == got[-1]
    finally:
        connections.close_all()
