"""One look at a status: in the cache, by django-redis, and in the database, PostgreSQL; an open run and an ended one.

``python -m benchmarks.status [--looks 2000]``

``DURABLE_TEST_REDIS_URL`` says which Redis; that of the standard port if it is not set.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

from benchmarks.environment import fresh_database

SECONDS = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--looks", type=int, default=2_000)
    options = parser.parse_args()
    os.environ["DURABLE_TEST_SETTINGS"] = json.dumps({"STATUS_CACHE": {"SECONDS": SECONDS}})
    os.environ.setdefault("DURABLE_TEST_REDIS_URL", "redis://127.0.0.1:6379/15")
    with fresh_database():
        from django_durable import durable  # noqa: PLC0415  after django.setup()
        from tests.flows import workflows as flows  # noqa: PLC0415

        definition = flows.echo.using(attributes={"customer": 7, "state": "packing"})
        for workflow_id in ("open", "ended"):
            durable.start_workflow(definition.using(workflow_id=workflow_id), {"lines": list(range(20))})
        durable.terminate_workflow("ended")
        for workflow_id in ("open", "ended"):
            compare(workflow_id, options.looks)


def compare(workflow_id: str, looks: int) -> None:
    """By turns, so that both meet the same machine."""
    from django_durable.client import finding, get_workflow_status, reading  # noqa: PLC0415

    took: dict[str, list[float]] = {"cache": [], "database": []}
    ways: dict[str, Callable[[], object]] = {
        "cache": lambda: get_workflow_status(workflow_id),
        "database": lambda: reading.status_of(finding.latest(workflow_id)),
    }
    for _ in range(looks):
        for name, look in ways.items():
            began = time.perf_counter()
            look()
            took[name].append((time.perf_counter() - began) * 1000)
    cache, database = (statistics.median(took[name]) for name in ("cache", "database"))
    print(
        f"{workflow_id}: p50 {cache:.3f} ms in the cache, {database:.3f} ms in the database: "
        f"{database / cache:.1f} times as fast, over {looks} looks",
        flush=True,
    )


if __name__ == "__main__":
    main()
