"""What dead workers leave behind is given back, in small steps that any worker can continue.

Step one, ``leases.declare_dead``, has committed before anything here runs: from then on the fence holds.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Subquery, When

from django_durable.history import blocking
from django_durable.models import ActivityTask, Dispatch, HistoryEvent, Worker
from django_durable.store import clock, database, dispatch, fences, locks, runs, tasks

BATCH = 500
STUCK_PAUSE = timedelta(minutes=10)  # before a run that hung a worker is tried again; doubled each time in a row
LONGEST_STUCK_PAUSE = timedelta(hours=4)
KEEP_DEAD = timedelta(days=1)  # dead workers stay visible for this long


def dead_workers_with_work() -> list[int]:
    """Workers that are declared dead and still own chains or tasks."""
    dead = Worker.objects.using(database.alias()).filter(dead=True)
    chains = Dispatch.objects.filter(owner=OuterRef("pk"))
    held = ActivityTask.objects.filter(worker=OuterRef("pk"))
    return list(dead.filter(Exists(chains) | Exists(held)).values_list("pk", flat=True))


def release_chains(dead: list[int]) -> list[UUID]:
    """Give one batch of the dead workers' chains back, due now; those that are locked are left for the next sweep."""
    with database.sweeping():
        owned = dispatch.rows().filter(owner__in=dead).order_by("pk")
        found = locks.first(owned.values_list("pk", flat=True), BATCH)
        if found:
            dispatch.rows().filter(pk__in=found).update(
                owner=None,
                closing=False,
                wakeup_at=clock.now(),
                recoveries=Case(When(_progressed(), then=0), default=F("recoveries") + 1),
            )
    return found


def _progressed() -> Q:
    """Whether anything was written under the dead worker's claim: then the run is not what killed it."""
    latest = HistoryEvent.objects.filter(run_id=OuterRef("run_id")).order_by("-sequence").values("time")[:1]
    return Q(claimed_at__lte=Subquery(latest))


def park_stuck(dead: list[int]) -> list[tuple[UUID, str]]:
    """Park the runs whose code made these workers give up, so that they do not take the next worker as well."""
    parked = []
    suspects = Worker.objects.using(database.alias()).filter(pk__in=dead, stuck_run__isnull=False)
    for worker, run_id, where in suspects.values_list("pk", "stuck_run", "stuck_where"):
        if run_id is None:
            continue
        with database.sweeping():
            mine = dispatch.rows().filter(run_id=run_id, owner=worker).values_list("pk", flat=True)
            chain = locks.to_change(locks.exactly(mine)).first()
            if chain:
                block = runs.set_blocked(run_id, blocking.stuck(where))
                dispatch.park(worker, chain, blocked_by="", delay=_stuck_pause(block.times))
                parked.append((run_id, where))
    return parked


def _stuck_pause(times: int) -> timedelta:
    """Each try costs a worker: ever fewer of them for code that keeps hanging."""
    doubled: int = 2 ** min(times - 1, 12)
    return min(STUCK_PAUSE * doubled, LONGEST_STUCK_PAUSE)


def abandoned_tasks(dead: list[int]) -> list[ActivityTask]:
    """One batch of the dead workers' tasks, locked for the transaction that the caller has opened."""
    return tasks.abandoned(dead, BATCH)


def forget_old_workers() -> int:
    """Delete workers that have been dead for a day and own nothing."""
    old = list(_old_workers().values_list("pk", flat=True))
    fences.take_down(old)
    return Worker.objects.using(database.alias()).filter(pk__in=old)._raw_delete(database.alias()) if old else 0


def _old_workers() -> QuerySet[Worker]:
    old = clock.plus(clock.now(), -KEEP_DEAD)
    return (
        Worker.objects.using(database.alias())
        .filter(dead=True, expires_at__lt=old)
        .exclude(pk__in=dead_workers_with_work())
    )
