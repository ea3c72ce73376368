"""Batches and conditions beside real workers."""

from __future__ import annotations

import pytest

from django_durable import durable
from tests.flows import workflows
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("cache", [0, 1_000])
def test_a_batch_is_carried_out_in_order(make_worker, configure, cache, workers):
    configure(INSTANCE_CACHE_SIZE=cache)
    for _ in range(workers):
        make_worker()
    handle = durable.start_workflow(workflows.batch, [3, -1, 2, 1], 2)
    assert handle.result(timeout=DEADLINE) == ["succeeded 6", "failed None", "succeeded 4", "succeeded 2"]
    assert_invariants(handle)


def test_a_lost_batch_begins_nothing_more(worker):
    handle = durable.start_workflow(workflows.batch, [-1, *range(100)], 1, 0)
    assert handle.result(timeout=DEADLINE) == ["failed None"] + ["cancelled None"] * 100
    assert [entry.type for entry in handle.history()].count("ActivityScheduled") == 1
    assert_invariants(handle)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("cache", [0, 1_000])
def test_a_condition_sees_what_handlers_change(make_worker, configure, cache, workers):
    configure(INSTANCE_CACHE_SIZE=cache)
    for _ in range(workers):
        make_worker()
    handle = durable.start_workflow(workflows.council, 2, 3_600)
    handle.signal("vote", "Ada")
    handle.signal("vote", "Bob")
    assert sorted(handle.result(timeout=DEADLINE)) == ["Ada", "Bob"]
    assert_invariants(handle)


def test_a_condition_that_does_not_come_true_times_out(worker):
    handle = durable.start_workflow(workflows.council, 1, 0.2)
    assert handle.result(timeout=DEADLINE) == ["nobody else"]
    assert_invariants(handle)
