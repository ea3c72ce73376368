"""One long chain: do the last thousand steps take longer than the first? PostgreSQL.

``python -m benchmarks.chain [--steps 10000]``
"""

from __future__ import annotations

import argparse
import statistics
from itertools import pairwise

from benchmarks.environment import fresh_database, worker_process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    options = parser.parse_args()
    with fresh_database(), worker_process(32):
        measure(options.steps)


def measure(steps: int) -> None:
    """The times are those of the events, so the database's clock decides. Medians leave out what else the disk does."""
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
    gaps = [(after - before).total_seconds() for before, after in pairwise(times)]
    thousands = [gaps[start : start + 1_000] for start in range(0, len(gaps), 1_000)]
    medians = [statistics.median(gaps) for gaps in thousands]
    print("seconds per thousand steps: " + " ".join(f"{sum(gaps):.2f}" for gaps in thousands))
    print("their median step, in milliseconds: " + " ".join(f"{median * 1000:.2f}" for median in medians))
    ratio, rate = medians[-1] / medians[0], steps / sum(gaps)
    print(f"last / first: {ratio:.2f} by the median step, {rate:,.0f} steps/s in one chain")


if __name__ == "__main__":
    main()
