"""A hundred thousand timers that are due at once: does each fire once, the oldest first, and how fast? PostgreSQL.

``python -m benchmarks.timers [--timers 100000] [--workers 1] [--concurrency 32]``

The runs and their timers are written as a worker would have left them: asleep for an hour, due one microsecond after
the other. Then the workers come, as after an outage.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from datetime import timedelta
from itertools import pairwise

from benchmarks.environment import fresh_database, worker_process

BATCH = 5_000
LATENESS = timedelta(seconds=1)  # by how much a timer may overtake an older one: claims come in portions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timers", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=32)
    options = parser.parse_args()
    with fresh_database():
        prepare(options.timers)
        began = time.monotonic()
        with ExitStack() as workers:
            for _ in range(options.workers):
                workers.enter_context(worker_process(options.concurrency))
            wait()
            seconds = time.monotonic() - began
        check(options.timers, seconds)


def prepare(timers: int) -> None:
    """Sleeping runs whose timers have been due for an hour."""
    from django.db import connection  # noqa: PLC0415  after django.setup()

    from django_durable import durable  # noqa: PLC0415
    from django_durable.history import codec, events  # noqa: PLC0415
    from tests.flows import workflows as flows  # noqa: PLC0415

    for _ in range(0, timers, BATCH):
        durable.start_workflows([flows.nap.call(3_600.0) for _ in range(BATCH)])
    event = codec.encode(events.TimerStarted(duration=3_600_000_000)).decode()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE durable_dispatch d SET epoch = 1, started_at = w.at, claimed_at = w.at, "
            "wakeup_at = w.at + INTERVAL '1 hour' FROM (SELECT chain_id, NOW() - INTERVAL '2 hours' - INTERVAL '1 s' "
            "+ row_number() OVER (ORDER BY chain_id) * INTERVAL '1 microsecond' AS at FROM durable_dispatch) w "
            "WHERE w.chain_id = d.chain_id"
        )
        cursor.execute(
            "UPDATE durable_historyevent e SET time = d.started_at FROM durable_dispatch d WHERE d.run_id = e.run_id"
        )
        cursor.execute(
            "INSERT INTO durable_historyevent (run_id, sequence, type, schema, time, data) "
            "SELECT run_id, 2, 'TimerStarted', %s, started_at, %s FROM durable_dispatch",
            [codec.SCHEMA, event],
        )
        cursor.execute("VACUUM ANALYZE durable_dispatch")
        cursor.execute("VACUUM ANALYZE durable_historyevent")


def wait() -> None:
    from django_durable.models import Dispatch  # noqa: PLC0415

    while Dispatch.objects.exists():
        time.sleep(0.2)


def check(timers: int, seconds: float) -> None:
    """By the histories: every timer fired, once, and none long before an older one."""
    from django_durable.models import HistoryEvent  # noqa: PLC0415

    fired = HistoryEvent.objects.filter(type="TimerFired").count()
    closed = HistoryEvent.objects.filter(type="RunCompleted").count()
    if (fired, closed) != (timers, timers):
        raise SystemExit(f"{timers:,} timers: {fired:,} fired, {closed:,} runs completed.")
    started = dict(HistoryEvent.objects.filter(type="RunStarted").values_list("run_id", "time"))
    times = HistoryEvent.objects.filter(type="TimerFired").values_list("run_id", "time")
    by_due = [at for _, at in sorted((started[run], at) for run, at in times)]
    inversions = [earlier - later for earlier, later in pairwise(by_due) if earlier - later > LATENESS]
    if inversions:
        raise SystemExit(f"{len(inversions):,} timers fired long before older ones, up to {max(inversions)}.")
    print(
        f"{timers:,} timers due at once: each fired once, oldest first, in {seconds:.1f} s: {timers / seconds:,.0f}/s"
    )


if __name__ == "__main__":
    main()
