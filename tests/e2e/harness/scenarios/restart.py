"""The database server crashes and recovers in the middle of the work, several times."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from django.db import connections

from tests.e2e.harness import cluster, databases, mariadbd, registrations, verdict, waiting
from tests.e2e.harness.stage import staged

WORKERS = 2
LEASE = 3.0  # shorter than an outage can be: nobody may be declared dead for it


SERVERS: dict[str, Callable[[], AbstractContextManager[cluster.Cluster | mariadbd.Mariadbd]]] = {
    "postgresql": cluster.own_cluster,
    "mysql": mariadbd.own_server,
}


def missing(vendor: str) -> str:
    """What is not installed here that a server of our own needs; empty: nothing."""
    if vendor == "mysql":
        return "" if mariadbd.programs() else "no MariaDB server is installed"
    return "" if cluster.binaries() else f"no PostgreSQL server is installed below {cluster.INSTALLED}"


def run(
    vendor: str = "postgresql",
    *,
    workflows: int,
    restarts: int = 3,
    steps: int = 8,
    seconds: float = 0.1,
    limit: float = 300.0,
) -> dict[str, Any]:
    """Let a server of our own crash ``restarts`` times while ``workflows`` run."""
    with (
        SERVERS[vendor]() as server,
        databases.fresh(server.url) as url,
        staged(url, concurrency=16, settings={"LEASE_SECONDS": LEASE}) as stage,
    ):
        fleet, work = stage.fleet, stage.work
        stage.start_workers(WORKERS)
        work.add(workflows, steps=steps, seconds=seconds)
        for number in range(restarts):
            share = (number + 1) / (restarts + 2)
            waiting.until(
                lambda: work.effects() >= work.expected_effects() * share,  # noqa: B023
                f"{share:.0%} of the effects",
                seconds=limit,
                tell=work.describe,
            )
            connections.close_all()
            server.crash_and_restart()
            fleet.check()
            waiting.say(f"restart {number + 1} of {restarts}; {work.describe()}")
        work.wait(seconds=limit, check=fleet.check)
        assert registrations.declared_dead() == 0, "a worker was declared dead for the server's outage"
        return {**verdict.check(work, fleet), "restarts": restarts}
