"""One long chain: do the last thousand steps take longer than the first? PostgreSQL.

``python -m benchmarks.chain [--steps 10000]``
"""

from __future__ import annotations

import argparse

from benchmarks.environment import fresh_database, worker_process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    options = parser.parse_args()
    with fresh_database(), worker_process(32):
        measure(options.steps)


def measure(steps: int) -> None:
    """The times are those of the events, so the database's clock decides."""
    from django_durable import durable  # noqa: PLC0415  after django.setup()
    from django_durable.models import HistoryEvent  # noqa: PLC0415
    from tests.flows import workflows as flows  # noqa: PLC0415

    handle = durable.start_workflow(flows.chain, steps)
    if handle.result(timeout=1_800) != steps:
        raise SystemExit("The result is wrong.")
    times = list(
        HistoryEvent.objects.filter(run_id=handle.run_id, type="ActivityCompleted")
        .order_by("sequence")
        .values_list("time", flat=True)
    )
    thousands = [(times[end - 1] - times[end - 1_000]).total_seconds() for end in range(1_000, len(times) + 1, 1_000)]
    print("seconds per thousand steps: " + " ".join(f"{seconds:.2f}" for seconds in thousands))
    print(f"last / first: {thousands[-1] / thousands[0]:.2f}, {steps / sum(thousands):,.0f} steps/s in one chain")


if __name__ == "__main__":
    main()
