"""Workflows that have ended long ago, in no time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from django_durable import models
from django_durable.client import pruning
from django_durable.client.pruning import Rules
from django_durable.store import clock
from django_durable.store import pruning as store
from django_durable.testing import environment
from django_durable.testing.environments import Environment
from tests.integration.worker.running import configure, make_worker

__all__ = ["configure", "make_worker"]

DAY = timedelta(days=1)
TABLES = (
    models.WorkflowRun,
    models.HistoryEvent,
    models.PrunedRun,
    models.RunAttribute,
    models.Update,
    models.ActivityOutcome,
    models.ActivityTask,
    models.InboxMessage,
    models.Dispatch,
)

Keep = Callable[..., None]


@pytest.fixture
def env(db: None) -> Iterator[Environment]:
    with environment() as one:
        yield one


@pytest.fixture
def keep(configure: Callable[..., None]) -> Keep:
    """``keep(completed=..., ...)``: the retention of the settings."""

    def change(**retention: Any) -> None:
        configure(RETENTION=retention)

    return change


def prune(**rules: Any) -> int:
    """All that may go, goes; returns how many chains that were."""
    now = Rules(now=clock.read(), **rules)
    names = store.names() if "before" in rules else pruning.names()
    gone = [chain for name in names for found in pruning.expired(name, now) for chain in pruning.delete(found)]
    pruning.clear()
    return len(gone)


def shorten() -> int:
    """All that may leave the middle of a chain does; returns how many runs that were."""
    now = Rules(now=clock.read())
    gone = [run for name in pruning.names() for found in pruning.continued(name, now) for run in pruning.shorten(found)]
    pruning.clear()
    return len(gone)


def left() -> dict[str, int]:
    """How many rows each table has, empty ones left out."""
    counts = {model.__name__: model._default_manager.count() for model in TABLES}
    return {name: count for name, count in counts.items() if count}


def assert_no_orphans() -> None:
    """No row belongs to a run or a chain that is not there, but for events whose deletion is under way."""
    runs = set(models.WorkflowRun.objects.values_list("pk", flat=True))
    chains = set(models.WorkflowRun.objects.values_list("chain_id", flat=True))
    going = dict(models.PrunedRun.objects.values_list("pk", "events"))
    assert runs.isdisjoint(going)
    for run_id, sequence in models.HistoryEvent.objects.values_list("run_id", "sequence"):
        assert run_id in runs or sequence <= going[run_id]
    assert set(models.RunAttribute.objects.values_list("run_id", flat=True)) <= runs
    for model in (models.Update, models.ActivityOutcome, models.ActivityTask, models.InboxMessage, models.Dispatch):
        assert set(model._default_manager.values_list("chain_id", flat=True)) <= chains, model
    parents = set(models.WorkflowRun.objects.exclude(parent_chain_id=None).values_list("parent_chain_id", flat=True))
    assert parents <= chains
