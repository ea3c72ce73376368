"""Workers and governed queues: limits hold over all of them, nothing waits longer than it must, a pause is kept to."""

from __future__ import annotations

from functools import partial

import pytest

from django_durable import durable
from django_durable.models import ActivityTask, Dispatch
from tests.flows import activities, workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for

QUEUES = ("default", "limited")


def at_gate(queue=None):
    found = ActivityTask.objects.filter(name=activities.wait_for_gate.name, worker__isnull=False)
    return (found if queue is None else found.filter(queue=queue)).count()


def waits(count):
    return partial(lambda: ActivityTask.objects.filter(worker__isnull=True).count() == count)


def begun(queue="limited"):
    return Dispatch.objects.filter(queue=queue, epoch__gt=0).count()


@pytest.fixture
def make_two(make_worker):
    """Two workers, which have seen how the queues are set up."""
    return lambda: [make_worker(queues=QUEUES, concurrency=4) for _ in range(2)]


def test_an_activity_of_a_limited_queue_waits_its_turn_though_its_own_worker_has_slots(make_two, make_gate):
    gate = make_gate("g")
    durable.set_queue("limited", concurrency=3)
    make_two()
    handles = [durable.start_workflow(workflows.wait_at_gate.using(queue="limited"), "g") for _ in range(6)]
    wait_for(lambda: (at_gate(), waits(3)()) == (3, True), "three to be let in and three to wait")
    gate.set()
    for handle in handles:
        assert handle.result(timeout=DEADLINE)
        assert_invariants(handle)


def test_places_that_get_free_are_filled_at_once(make_worker, configure):
    configure(POLL_SECONDS=30)  # nobody finds it by looking every now and then
    durable.set_queue("limited", concurrency=1)
    handles = durable.start_workflows(
        [workflows.effects.using(queue="limited").call(str(number), 2) for number in range(5)]
    )
    make_worker(queues=QUEUES)
    for handle in handles:
        assert len(handle.result(timeout=DEADLINE)) == 2
    assert Entry.objects.count() == 10


def test_workflows_are_counted_until_they_end_asleep_or_not(make_two):
    durable.set_queue("limited", counts="workflows", concurrency=2)
    make_two()
    handles = durable.start_workflows([workflows.approval.using(queue="limited").call() for _ in range(5)])
    closed: list[object] = []
    for _ in range(5):
        wait_for(lambda: begun() == min(2, 5 - len(closed)), "the next to begin")
        handle = next(one for one in handles if one not in closed and one.status().started_at is not None)
        handle.signal(workflows.approved("yes"))
        assert handle.result(timeout=DEADLINE) == "yes"
        closed.append(handle)


def test_a_parent_that_waits_for_its_child_in_a_full_queue_does_not_wait_for_ever(make_two):
    durable.set_queue("limited", counts="workflows", concurrency=1)
    make_two()
    family = workflows.parent_by_name.using(queue="limited")
    handles = [durable.start_workflow(family, "flows.echo", [number], {"queue": "limited"}) for number in range(3)]
    assert [handle.result(timeout=DEADLINE) for handle in handles] == [0, 1, 2]


def test_nothing_is_taken_from_a_paused_queue_until_it_is_resumed(make_two, make_gate):
    gate = make_gate("g")
    workers = make_two()
    going_on = durable.start_workflow(workflows.wait_at_gate.using(queue="limited"), "g", 1)
    wait_for(lambda: any(worker.engine and worker.engine.holdings.jobs for worker in workers), "the gate")
    assert durable.pause_queue("limited", "the provider is down")
    assert not durable.pause_queue("limited")
    wait_for(lambda: all("limited" in worker.engine.taking.governed for worker in workers), "them to see it")
    waiting = durable.start_workflow(workflows.echo.using(queue="limited"), 1)
    elsewhere = durable.start_workflow(workflows.echo, 2)
    gate.set()
    assert elsewhere.result(timeout=DEADLINE) == 2
    wait_for(waits(1), "the next step to become a task that nobody takes")
    assert (going_on.status().status, waiting.status().started_at) == ("running", None)
    assert durable.resume_queue("limited")
    assert not durable.resume_queue("limited")
    assert waiting.result(timeout=DEADLINE) == 1
    assert going_on.result(timeout=DEADLINE)


def test_activities_and_children_have_the_key_of_their_workflow(make_worker, make_gate):
    gate = make_gate("g")
    durable.set_queue("default", concurrency=10)
    make_worker()
    mine = workflows.parent_by_name.using(partition_key="acme")
    handle = durable.start_workflow(mine, "flows.wait_at_gate", ["g"], {})
    wait_for(at_gate, "the activity of the child")
    assert ActivityTask.objects.get().partition_key == "acme"
    assert set(Dispatch.objects.values_list("partition_key", flat=True)) == {"acme"}
    gate.set()
    handle.result(timeout=DEADLINE)


@pytest.mark.slow
@pytest.mark.parametrize("counts", ["activities", "workflows"])
def test_a_worker_that_is_killed_takes_no_place_with_it(make_dying_worker, make_worker, configure, counts):
    configure(LEASE_SECONDS=1.5)
    durable.set_queue("limited", counts=counts, concurrency=1)
    flow = workflows.effects.using(queue="limited")
    handles = durable.start_workflows([flow.call(str(number), 1) for number in range(3)])
    make_dying_worker("running", queues="limited").wait_for_death()
    lost = ActivityTask if counts == "activities" else Dispatch
    assert lost.objects.filter(queue="limited", admitted=True).count() == 1
    make_worker(queues=QUEUES)
    for handle in handles:
        handle.result(timeout=DEADLINE)
        assert_invariants(handle)
    assert Entry.objects.count() == 4
