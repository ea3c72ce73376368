"""A worker that was declared dead writes nothing more under its id, registers anew and goes on."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from django_durable import durable
from django_durable.models import Worker
from django_durable.store import flush, leases
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.deaths import declare_dead
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


@pytest.fixture(autouse=True)
def _frequent_heartbeats(configure):
    """What a dead worker had is found at the next heartbeat of another one, six in each lease."""
    configure(LEASE_SECONDS=4)


def effects(count):
    """Whether there are at least so many effects."""
    return Entry.objects.count() >= count


def test_a_fenced_worker_registers_anew_and_every_run_completes(worker):
    handles = [durable.start_workflow(workflows.effects, str(number), 6, 0.01) for number in range(6)]
    for count in (3, 9, 15):
        wait_for(partial(effects, count), "some effects")
        declare_dead(worker.id)
    for number, handle in enumerate(handles):
        assert handle.result(timeout=DEADLINE) == [f"{number}/{step}" for step in range(6)]
    assert Worker.objects.filter(dead=True).count() >= 1
    assert not Worker.objects.get(pk=worker.id).dead
    counts = Counter(Entry.objects.values_list("kind", "key"))
    assert {key: count for key, count in counts.items() if key[0] == "atomic" and count != 1} == {}
    assert len(counts) == 36
    assert_all_invariants(handles)


def test_slots_that_a_fenced_batch_had_reserved_are_free_again(make_worker, monkeypatch):
    """Otherwise a worker with one slot could never run anything again."""
    fenced: list[int] = []

    def flush_too_late(worker, writes, **options):
        if len(fenced) < 3 and any(row.type == "ActivityScheduled" for write in writes for row in write.events):
            fenced.append(worker)
            declare_dead(worker)
        return original(worker, writes, **options)

    original = flush.flush
    monkeypatch.setattr(flush, "flush", flush_too_late)
    make_worker(concurrency=1)
    handle = durable.start_workflow(workflows.chain, 3)
    assert handle.result(timeout=DEADLINE) == 3
    assert len(set(fenced)) == 3
    assert_invariants(handle)


def test_a_slot_is_free_again_although_its_activity_ended_between_two_registrations(
    make_worker, make_gate, monkeypatch
):
    gate = make_gate("between")
    worker = make_worker(concurrency=1)
    handle = durable.start_workflow(workflows.call, "flows.recorded_at_gate", ["between"])
    wait_for(Entry.objects.exists, "the activity to run")

    def register_late(*args, **options):
        gate.set()
        wait_for(lambda: worker._finished, "the activity to end")
        return original(*args, **options)

    original = leases.register
    monkeypatch.setattr(leases, "register", register_late)
    declare_dead(worker.id)
    assert handle.result(timeout=DEADLINE) == "between"
    assert_invariants(handle)


def test_an_idle_worker_that_is_declared_dead_notices_at_its_next_heartbeat(worker):
    wait_for(lambda: worker.id, "the registration")
    before = worker.id
    declare_dead(before)
    wait_for(lambda: worker.id != before, "the new registration")
    assert durable.start_workflow(workflows.chain, 2).result(timeout=DEADLINE) == 2


def test_an_activity_that_was_running_when_its_worker_was_fenced_does_not_report_twice(worker, make_gate):
    gate = make_gate("fenced")
    handle = durable.start_workflow(workflows.call, "flows.recorded_at_gate", ["fenced"])
    wait_for(lambda: Entry.objects.exists(), "the activity to run")
    before = worker.id
    declare_dead(worker.id)
    durable.start_workflow(workflows.echo, 1).result(timeout=DEADLINE)  # makes the worker notice
    assert worker.id != before
    wait_for(lambda: Entry.objects.count() == 2, "the interrupted activity to run again")
    gate.set()
    assert handle.result(timeout=DEADLINE) == "fenced"
    assert sorted(Entry.objects.values_list("attempt", flat=True)) == [1, 2]
    assert_invariants(handle)


def test_at_most_once_means_that_an_interrupted_activity_fails(worker, make_gate):
    gate = make_gate("interrupted")
    handle = durable.start_workflow(workflows.catch, "flows.at_most_once_at_gate", ["interrupted"])
    wait_for(lambda: Entry.objects.exists(), "the activity to run")
    declare_dead(worker.id)
    durable.start_workflow(workflows.echo, 1).result(timeout=DEADLINE)
    failure = handle.result(timeout=DEADLINE)
    gate.set()
    assert failure["interrupted"]
    assert Entry.objects.count() == 1
    assert_invariants(handle)
