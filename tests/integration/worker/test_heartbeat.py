"""The heartbeat vouches for the engine, and who judges others must have lived unbroken itself."""

from __future__ import annotations

import pytest

from django_durable import durable
from django_durable.models import Worker
from django_durable.store import clock
from tests.flows import workflows
from tests.integration.worker.deaths import past_worker
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for
from tests.integration.worker.test_connections import end_all_other_connections


def lease_left(worker):
    """Seconds until its lease expires."""
    return (Worker.objects.get(pk=worker.id).expires_at - clock.read()).total_seconds()


def test_the_lease_of_a_worker_whose_engine_makes_no_progress_is_not_renewed(make_worker, make_gate, configure):
    """A heart that beats while the engine hangs would keep its runs for ever."""
    configure(LEASE_SECONDS=1.5, STUCK_SECONDS=60)
    gate = make_gate("engine")
    handle = durable.start_workflow(workflows.hold_engine, "engine")
    worker = make_worker()
    wait_for(lambda: worker._watchdog._subject, "the code to run")
    wait_for(lambda: lease_left(worker) < 0, "the lease to expire")
    gate.set()
    assert handle.result(timeout=DEADLINE) == "engine"
    wait_for(lambda: lease_left(worker) > 0, "the lease to be renewed")
    assert_invariants(handle)


def test_a_worker_declares_nobody_dead_before_it_has_lived_for_a_lease_itself(make_worker, configure):
    """It sees an expired lease at its start: perhaps the database was away, and nobody has died."""
    configure(LEASE_SECONDS=60)
    late = past_worker(dead=False)
    worker = make_worker()
    wait_for(lambda: worker.id, "the registration")
    worker._maintenance.sweep()
    assert not Worker.objects.get(pk=late).dead
    assert durable.start_workflow(workflows.chain, 2).result(timeout=DEADLINE) == 2
    assert not Worker.objects.get(pk=late).dead


@pytest.mark.server
def test_a_broken_heartbeat_makes_the_time_until_a_worker_may_judge_begin_anew(make_worker, configure):
    configure(LEASE_SECONDS=1.5)
    worker = make_worker()
    wait_for(worker._heartbeat.may_judge, "the worker to be allowed to judge")
    before = worker._heartbeat._unbroken_since
    end_all_other_connections()
    began_anew = wait_for(
        lambda: (since := worker._heartbeat._unbroken_since) != before and since, "the heartbeat to begin anew"
    )
    assert began_anew > before
    late = past_worker(dead=False)
    wait_for(lambda: Worker.objects.get(pk=late).dead, "the worker to judge again")
