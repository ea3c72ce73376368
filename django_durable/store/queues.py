"""Queues that are paused, limited or fair: their rows, as workers and people read and change them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from django.db.models import QuerySet

from django_durable.definitions.queue import ACTIVITIES, WORKFLOWS, QueueOptions
from django_durable.definitions.rate import Rate
from django_durable.models import Queue
from django_durable.store import database, dispatch, turns

Governed = Mapping[str, "Rules"]
NONE: Governed = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a queue is served."""

    paused: bool
    options: QueueOptions

    @property
    def spills(self) -> bool:
        """Whether its activities are never run beside the line: each is to be claimed."""
        return self.paused or self.options.governs(ACTIVITIES)


def rows() -> QuerySet[Queue]:
    return Queue.objects.using(database.alias())


def read() -> Governed:
    """The rules of all queues that have some."""
    return {row.name: rules_of(row) for row in rows()}


def read_one(name: str) -> Rules:
    """The rules of a queue as they are committed now."""
    row = rows().filter(pk=name).first()
    return rules_of(row) if row is not None else Rules(paused=False, options=QueueOptions())


def locked(name: str) -> Queue:
    """The row of a queue, made if there is none, locked for the caller's transaction: no claim waits for that."""
    row, _ = rows().select_for_update().get_or_create(pk=name)
    return row


def rules_of(row: Queue) -> Rules:
    return Rules(paused=row.paused, options=options_of(row))


def options_of(row: Queue) -> QueueOptions:
    """The limits in a row."""
    return QueueOptions(
        counts=ACTIVITIES if row.counts == ACTIVITIES else WORKFLOWS,
        concurrency=row.concurrency,
        concurrency_per_worker=row.concurrency_per_worker,
        concurrency_per_key=row.concurrency_per_key,
        rate=_rate(row.rate, row.rate_period, row.rate_burst),
        rate_per_key=_rate(row.key_rate, row.key_rate_period, row.key_rate_burst),
        fair=row.fair,
        weights=json.loads(row.weights),
    )


def _rate(count: int | None, period: timedelta | None, burst: int | None) -> Rate | None:
    return Rate(count, per=period, burst=burst) if count is not None and period is not None else None


def write(row: Queue, options: QueueOptions) -> None:
    """Store limits in a row that the caller has locked. Workflows that have begun count from now on."""
    before = options_of(row).governs(WORKFLOWS)
    row.counts = options.counts
    row.concurrency = options.concurrency
    row.concurrency_per_worker = options.concurrency_per_worker
    row.concurrency_per_key = options.concurrency_per_key
    row.rate, row.rate_period, row.rate_burst = _columns(options.rate)
    row.key_rate, row.key_rate_period, row.key_rate_burst = _columns(options.rate_per_key)
    row.fair = options.fair
    row.weights = json.dumps(dict(sorted(options.weights.items())))
    row.save(using=database.alias())
    turns.make(row.name)
    if options.governs(WORKFLOWS) and not before:
        dispatch.admit_begun(row.name)


def _columns(rate: Rate | None) -> tuple[int | None, timedelta | None, int | None]:
    return (rate.count, rate.per, rate.burst) if rate is not None else (None, None, None)
