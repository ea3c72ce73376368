"""Connections that break between COMMIT and its answer, at random: nothing is lost, nothing is executed again."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from tests.e2e.harness import databases, registrations, verdict, wire
from tests.e2e.harness.proxy import Cut, CuttingProxy
from tests.e2e.harness.stage import staged

WORKERS = 2
CUTS = {Cut.REPLY_LOST: 3, Cut.IN_COMMIT: 1, Cut.NEVER_SENT: 1}


def run(
    url: str,
    *,
    workflows: int,
    steps: int = 8,
    seconds: float = 0.02,
    share: float = 0.02,
    limit: float = 300.0,
    seed: int = 1,
) -> dict[str, Any]:
    """``share`` of all COMMITs of the workers meet a cut."""
    server, spoken = urlsplit(url), wire.WIRES[databases.vendor(url)]
    address = (server.hostname or "127.0.0.1", server.port or spoken.PORT)
    with CuttingProxy(address, spoken, share=share, cuts=CUTS, seed=seed) as proxy:
        workers_url = f"{databases.with_address(url, '127.0.0.1', proxy.port)}?{spoken.CLEAR}"
        with staged(url, concurrency=16, settings={"LEASE_SECONDS": 5.0}, workers_url=workers_url) as stage:
            stage.start_workers(WORKERS)
            stage.work.add(workflows, steps=steps, seconds=seconds)
            stage.work.wait(seconds=limit, check=stage.fleet.check)
            proxy.stop_cutting()
            assert sum(proxy.counts.values()), "not one reply was lost"
            assert registrations.declared_dead_alive() == 0, "a worker was declared dead"
            figures = verdict.check(stage.work, stage.fleet, once=True)
    return {**figures, "commits": proxy.commits, **{cut.value: proxy.counts[cut] for cut in CUTS}}
