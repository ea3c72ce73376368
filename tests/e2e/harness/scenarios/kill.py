"""SIGKILL of a random worker every few seconds, a new one started in its place."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

from tests.e2e.harness import verdict, waiting
from tests.e2e.harness.stage import staged

WORKERS = 2
LEASE = 3.0


def run(
    url: str,
    *,
    workflows: int,
    kills: int,
    steps: int = 8,
    seconds: float = 0.1,
    every: float = 2.0,
    concurrency: int = 16,
    limit: float = 300.0,
    seed: int = 1,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """``kills`` kills, ``every`` so many seconds; each step of a workflow takes ``seconds``.

    ``environment``: what the workers' environment has besides ours.
    """
    chance = random.Random(seed)
    with staged(url, concurrency=concurrency, settings={"LEASE_SECONDS": LEASE}, environment=environment) as stage:
        fleet, work = stage.fleet, stage.work
        stage.start_workers(WORKERS)
        work.add(workflows, steps=steps, seconds=seconds)
        began = time.monotonic()
        for number in range(kills):
            time.sleep(max(0.0, began + every * (number + 1) - time.monotonic()))
            assert work.unfinished(), f"everything was done after {number} kills: give the workflows more to do"
            victim = chance.choice(fleet.running)
            victim.kill()
            fleet.start()
            fleet.check()
            waiting.say(f"kill {number + 1} of {kills}: {victim}; {work.describe()}")
        work.wait(seconds=limit, check=fleet.check)
        took = time.monotonic() - began
        return {**verdict.check(work, fleet), "kills": kills, "seconds": round(took, 1)}
