"""Steps a second: many workflows of sequential no-op activities, one worker process or more.

``python -m benchmarks.steps [--workflows 500] [--steps 10] [--concurrency 500] [--processes 1] [--rounds 3]
[--asynchronous] [--database postgres|mariadb|sqlite]``
"""

from __future__ import annotations

import argparse
import statistics
import time
from subprocess import Popen

from benchmarks.environment import cpu_seconds, fresh_database, worker_process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workflows", type=int, default=500)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--concurrency", type=int, default=500, help="slots; by default one for each workflow")
    parser.add_argument("--processes", type=int, default=1, help="worker processes, with that many slots each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--asynchronous", action="store_true", help="async def activities")
    parser.add_argument("--database", choices=("postgres", "mariadb", "sqlite"), default="postgres")
    options = parser.parse_args()
    with fresh_database(options.database), worker_process(options.concurrency, options.processes) as worker:
        measure(worker, options.workflows, options.steps, options.rounds, asynchronous=options.asynchronous)


def measure(worker: Popen[bytes], workflows: int, steps: int, rounds: int, *, asynchronous: bool) -> None:
    """Start them in bulk, then wait for the last: the time from the first claim to the last close counts."""
    from django.db.models import Max, Min  # noqa: PLC0415  after django.setup()

    from django_durable import durable  # noqa: PLC0415
    from django_durable.models import WorkflowRun  # noqa: PLC0415
    from tests.flows import workflows as flows  # noqa: PLC0415

    definition = flows.chain_async if asynchronous else flows.chain
    durable.start_workflow(definition, 1).result(timeout=30)
    rates = []
    for _ in range(rounds):
        cpu, began = cpu_seconds(worker), time.monotonic()
        handles = durable.start_workflows([definition.call(steps) for _ in range(workflows)])
        ids = [handle.run_id for handle in handles]
        while WorkflowRun.objects.filter(pk__in=ids).open().exists():
            time.sleep(0.05)
        whole = time.monotonic() - began
        if not all(handle.result() == steps for handle in handles):
            raise SystemExit("A result is wrong.")
        span = WorkflowRun.objects.filter(pk__in=ids).aggregate(start=Min("started_at"), end=Max("closed_at"))
        seconds = (span["end"] - span["start"]).total_seconds()
        rates.append(workflows * steps / seconds)
        each = (cpu_seconds(worker) - cpu) / (workflows * steps) * 1e6
        print(
            f"{workflows} workflows x {steps} steps in {seconds:.2f} s: {rates[-1]:,.0f} steps/s "
            f"({workflows * steps / whole:,.0f} with their starts), "
            f"{each:.0f} microseconds of the workers' processor time a step",
            flush=True,
        )
    print(f"median {statistics.median(rates):,.0f} steps/s")


if __name__ == "__main__":
    main()
