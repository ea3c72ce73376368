"""A queue with fairness on, and a limited one: what others wait beside a noisy tenant, and how much one lock lets in.

``python -m benchmarks.queues [--jobs 40] [--noise 50] [--slots 8] [--milliseconds 5]``

Ten tenants start their jobs at once, nine of them ``--jobs``, the tenth ``--noise`` times as many or none; each job is
one activity of ``--milliseconds``. What counts is the time from a job's start to the beginning of its activity, for
the nine. Then claims: tasks that wait in a queue with a limit that is never reached are claimed one by one, and a
hundred at a time, by one and by four connections.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from benchmarks.environment import fresh_database, worker_process

TENANTS = 10
QUEUE = "default"
SECONDS = 4.0  # that claims are counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=40, help="of each quiet tenant")
    parser.add_argument("--noise", type=int, default=50, help="times the jobs of a quiet tenant")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--milliseconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with fresh_database():
        from django_durable import durable  # noqa: PLC0415  after django.setup()

        for fair in (True, False):
            durable.set_queue(QUEUE, fair=fair)
            with worker_process(options.slots):
                compare(options, "fair" if fair else "first come, first served")
        durable.set_queue(QUEUE, fair=False)
        for workers in (1, 4):
            for size in (1, 100):
                claims(workers, size)


def compare(options: argparse.Namespace, words: str) -> None:
    """Waits of the nine, with and without the tenth, alternately."""
    alone, beside = [], []
    for _ in range(options.rounds):
        alone.append(p95(waits(options, noise=0)))
        beside.append(p95(waits(options, noise=options.noise)))
    quiet, noisy = statistics.median(alone), statistics.median(beside)
    print(
        f"{words}: p95 wait of the others {quiet:.2f} s without, {noisy:.2f} s with a tenant of "
        f"{options.noise}x their load: {noisy / quiet:.2f}x",
        flush=True,
    )


def waits(options: argparse.Namespace, *, noise: int) -> list[float]:
    """Start everything in one transaction; the quiet tenants' waits in seconds, once their jobs are done."""
    from django_durable import durable  # noqa: PLC0415
    from django_durable.models import HistoryEvent, WorkflowRun  # noqa: PLC0415
    from tests.flows import workflows  # noqa: PLC0415

    def calls(tenant: int, count: int) -> list[object]:
        job = workflows.effects.using(partition_key=f"tenant {tenant}")
        return [job.call("job", 1, options.milliseconds / 1000) for _ in range(count)]

    noisy = calls(0, options.jobs * noise)
    quiet = [call for tenant in range(1, TENANTS) for call in calls(tenant, options.jobs)]
    handles = durable.start_workflows([*noisy, *quiet])  # type: ignore[list-item]
    ids = [handle.run_id for handle in handles[len(noisy) :]]
    mine = WorkflowRun.objects.filter(pk__in=ids)
    while mine.open().exists():
        time.sleep(0.1)
    ended = dict(HistoryEvent.objects.filter(run_id__in=ids, type="ActivityCompleted").values_list("run_id", "time"))
    began = dict(mine.values_list("pk", "created_at"))
    durable.terminate_workflows(WorkflowRun.objects.all().open())
    return [(ended[one] - began[one]).total_seconds() - options.milliseconds / 1000 for one in ids]


def p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def claims(workers: int, size: int) -> None:
    """How many claims, and how many tasks, one turn row lets in in a second."""
    from django.db import connections  # noqa: PLC0415

    from django_durable import durable  # noqa: PLC0415
    from django_durable.store import admission, database, identifiers, leases, levels, tasks  # noqa: PLC0415

    queue = f"limited {workers} {size}"
    durable.set_queue(queue, concurrency=1_000_000)
    total = 10_000 if size == 1 else 50_000
    for first in range(0, total, 1_000):
        tasks.insert([_task(identifiers.uuid7(), queue, number) for number in range(first, first + 1_000)])
    _analyze()
    got: list[int] = []
    durations: list[float] = []

    def work(until: float) -> None:
        worker = leases.register("benchmark", queues=[queue], definitions=[], concurrency=1, release="0")
        while time.monotonic() < until:
            began = time.monotonic()
            with database.writing():
                leases.prove_alive(worker, flushed=False)
                level = levels.Level(queue, 0, datetime.min)
                claimed = admission.claim_tasks(worker, level, names=["flows.nothing"], limit=size).claimed
            if claimed:
                got.append(len(claimed))
                durations.append(time.monotonic() - began)
            else:
                time.sleep(admission.AGAIN.total_seconds())
        connections.close_all()

    began = time.monotonic()
    threads = [threading.Thread(target=partial(work, began + SECONDS)) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    fast = statistics.quantiles(durations, n=10)[0]
    print(
        f"{workers} connections, {size} a claim: {len(got) / seconds:,.0f} claims/s, {sum(got) / seconds:,.0f} "
        f"activities/s; the fastest tenth of the claims took at most {fast * 1000:.1f} ms",
        flush=True,
    )


def _analyze() -> None:
    """What autovacuum would do a little later."""
    from django_durable.store import database  # noqa: PLC0415

    with database.cursor() as cursor:
        cursor.execute("ANALYZE")


def _task(chain: object, queue: str, number: int) -> object:
    from django_durable.store import tasks  # noqa: PLC0415

    return tasks.NewTask(
        chain, "a", chain, 2, "benchmark", "flows.nothing", queue, 0, "[]", "", None  # type: ignore[arg-type]
    )  # fmt: skip


if __name__ == "__main__":
    main()
