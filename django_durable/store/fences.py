"""The row that a worker's commits lock against a declaration of its death, where that is not its own row.

On PostgreSQL a commit locks the worker's row against nothing but that declaration. On MariaDB it would lock out the
heartbeat as well, so that there the word ``dead`` has a row of its own. SQLite needs no lock.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import QuerySet

from django_durable.models import Worker, WorkerFence
from django_durable.store import database


def rows() -> QuerySet[WorkerFence]:
    return WorkerFence.objects.using(database.alias())


def are_used() -> bool:
    return database.is_mariadb()


def put_up(worker: int) -> None:
    """Give a new worker its fence, in the transaction that adds it."""
    if are_used():
        rows().bulk_create([WorkerFence(worker=worker)])


def locked(workers: QuerySet[Worker]) -> list[int]:
    """Ids of these workers, locked against their commits and for their declaration; those that commit are left out."""
    if not are_used():
        return list(workers.select_for_update(skip_locked=True).values_list("pk", flat=True))
    ids = list(workers.values_list("pk", flat=True))
    had = list(rows().filter(pk__in=ids).select_for_update(skip_locked=True).values_list("pk", flat=True))
    return list(workers.filter(pk__in=had).select_for_update(skip_locked=True).values_list("pk", flat=True))


def close(workers: Collection[int]) -> None:
    """Let these workers commit nothing any more."""
    if are_used() and workers:
        rows().filter(pk__in=workers).update(dead=True)


def take_down(workers: Collection[int]) -> None:
    """Forget the fences of workers that are forgotten."""
    if are_used() and workers:
        rows().filter(pk__in=workers).delete()
