"""A run's instance is kept only for the claim that follows its release."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F

from django_durable import durable
from django_durable.models import Dispatch
from tests.flows import workflows
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


@pytest.fixture(autouse=True)
def _no_visits():
    workflows.visits.clear()


def released(epoch=1):
    """Wait until the only open run has been given back."""
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch=epoch).exists(), "the run to be given back")


def test_the_worker_that_had_a_run_last_goes_on_without_replaying_it(worker):
    handle = durable.start_workflow(workflows.visited)
    released()
    handle.signal(workflows.approved("hello"))
    assert handle.result(timeout=DEADLINE) == "hello"
    assert len(workflows.visits) == 1
    assert_invariants(handle)


def test_an_instance_is_not_used_once_somebody_else_has_had_the_run(worker):
    handle = durable.start_workflow(workflows.visited)
    released()
    Dispatch.objects.update(epoch=F("epoch") + 1)
    handle.signal(workflows.approved("hello"))
    assert handle.result(timeout=DEADLINE) == "hello"
    assert len(workflows.visits) == 2
    assert_invariants(handle)


def test_an_instance_is_not_used_after_a_claim_that_the_server_forgot_and_gave_to_somebody_else(worker):
    """Claims need not wait for the disk: after a crash of the server the same epoch can be claimed a second time."""
    handle = durable.start_workflow(workflows.visited)
    released()
    Dispatch.objects.update(claimed_at=F("claimed_at") + timedelta(seconds=1))
    handle.signal(workflows.approved("hello"))
    assert handle.result(timeout=DEADLINE) == "hello"
    assert len(workflows.visits) == 2
    assert_invariants(handle)


def test_another_worker_replays_the_run(make_worker):
    first = make_worker()
    handle = durable.start_workflow(workflows.visited)
    released()
    first.stop()
    assert first.join(DEADLINE)
    make_worker()
    handle.signal(workflows.approved("hello"))
    assert handle.result(timeout=DEADLINE) == "hello"
    assert len(workflows.visits) == 2
    assert_invariants(handle)


def test_results_do_not_depend_on_the_instance_cache(worker, configure):
    configure(INSTANCE_CACHE_SIZE=0)
    visited = durable.start_workflow(workflows.visited)
    everything = durable.start_workflow(workflows.everything, "k")
    chains = [durable.start_workflow(workflows.chain, 5), durable.start_workflow(workflows.fan_out, 9)]
    wait_for(lambda: Dispatch.objects.filter(pk=visited.run_id, owner=None, epoch=1), "the run to be given back")
    for handle in (visited, everything):
        handle.signal(workflows.approved("hello"))
    assert visited.result(timeout=DEADLINE) == "hello"
    assert len(workflows.visits) > 1
    assert everything.result(timeout=DEADLINE)["word"] == "hello"
    assert [handle.result(timeout=DEADLINE) for handle in chains] == [5, 36]
    assert_all_invariants([visited, everything, *chains])
