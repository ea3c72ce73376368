"""From start to result on an idle system: one workflow without activities and one with one, PostgreSQL.

``python -m benchmarks.latency [--starts 200] [--transport postgres|redis|polling]``

``DURABLE_TEST_REDIS_URL`` says which Redis; that of the standard port if it is not set.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time

from benchmarks.environment import fresh_database, worker_process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=200)
    parser.add_argument("--transport", choices=("postgres", "redis", "polling"), default="postgres")
    options = parser.parse_args()
    os.environ["DURABLE_TEST_SETTINGS"] = json.dumps({"TRANSPORTS": [options.transport]})
    if options.transport == "redis":
        os.environ.setdefault("DURABLE_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
    with fresh_database(), worker_process(32):
        from tests.flows import workflows as flows  # noqa: PLC0415  after django.setup()

        flows_and_names = ((flows.echo, "no activity"), (flows.chain, "one activity"))
        for definition, name in flows_and_names:
            measure(definition, name, options.starts)


def measure(definition: object, name: str, starts: int) -> None:
    """Start one, wait for its result, rest for a while, again."""
    from django_durable import durable  # noqa: PLC0415

    durable.start_workflow(definition, 1).result(timeout=30)
    took = []
    for _ in range(starts):
        time.sleep(random.uniform(0.05, 0.15))
        began = time.perf_counter()
        durable.start_workflow(definition, 1).result(timeout=30)
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    print(
        f"{name}: p50 {statistics.median(took):.1f} ms, p90 {took[int(starts * 0.9)]:.1f} ms, "
        f"p99 {took[int(starts * 0.99)]:.1f} ms over {starts} starts",
        flush=True,
    )


if __name__ == "__main__":
    main()
