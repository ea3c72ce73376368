"""The workload of ``benchmarks.steps`` on DBOS Transact, to compare both on one machine.

``python benchmarks/peer_dbos.py [--workflows 500] [--steps 10] [--rounds 3]``, in an environment of its own with
``pip install dbos``. In a database of its own; the server is that of ``DURABLE_TEST_POSTGRES_URL``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import psycopg
from dbos import DBOS

DEFAULT_URL = "postgres://postgres@127.0.0.1:5432/test"
LOOKS = 100  # at a workflow of one step, for its median
PAUSE = 0.05  # seconds between two of them


@DBOS.step()
def nothing(value: int) -> int:
    return value + 1


@DBOS.workflow()
def chain(steps: int) -> int:
    value = 0
    for _ in range(steps):
        value = nothing(value)
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workflows", type=int, default=500)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with launched():
        measure_rate(options.workflows, options.steps, options.rounds)
        measure_latency()


@contextmanager
def launched() -> Iterator[None]:
    url = os.environ.get("DURABLE_TEST_POSTGRES_URL", DEFAULT_URL).replace("postgres://", "postgresql://")
    name = f"dbos_bench_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": f"{url.rsplit('/', 1)[0]}/{name}",
            "run_admin_server": False,
            "log_level": "WARNING",
        }
    )
    DBOS.launch()
    try:
        yield
    finally:
        DBOS.destroy()
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def measure_rate(workflows: int, steps: int, rounds: int) -> None:
    """From the first start to the last result."""
    DBOS.start_workflow(chain, 1).get_result()
    rates = []
    for _ in range(rounds):
        began = time.monotonic()
        handles = [DBOS.start_workflow(chain, steps) for _ in range(workflows)]
        results = [handle.get_result() for handle in handles]
        seconds = time.monotonic() - began
        if results != [steps] * workflows:
            raise SystemExit("A result is wrong.")
        rates.append(workflows * steps / seconds)
        print(f"{workflows} workflows x {steps} steps in {seconds:.2f} s: {rates[-1]:,.0f} steps/s", flush=True)
    print(f"DBOS {version('dbos')}: median {statistics.median(rates):,.0f} steps/s", flush=True)


def measure_latency() -> None:
    times = []
    for _ in range(LOOKS):
        began = time.monotonic()
        DBOS.start_workflow(chain, 1).get_result()
        times.append(time.monotonic() - began)
        time.sleep(PAUSE)
    print(f"start to result, one step: p50 {statistics.median(times) * 1000:.1f} ms")


if __name__ == "__main__":
    main()
