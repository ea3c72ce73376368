"""What every transport keeps: hints wake whom they are for, and neither loss nor repetition changes what happens."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from django_durable import Schedule, durable, transports
from django_durable.models import Dispatch, WorkflowRun
from django_durable.worker import pace
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.transports.ears import listening, wait_until_hears
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE, STEP, wait_for

NEVER = 3_600.0  # seconds between two looks: what is done before a test's deadline was done because of a hint
GATE = "conformance"


def asleep(handle):
    """Wait until nobody has the run."""
    wait_for(lambda: Dispatch.objects.filter(pk=handle.run_id, owner=None, epoch__gt=0).exists(), "the run to sleep")


@pytest.fixture
def deaf(hearing, monkeypatch):
    """A transport that is heard, and whose every hint is lost on its way."""
    [transport] = transports.all()
    for name in ("work", "message"):
        monkeypatch.setattr(type(transport), name, lambda self, whom: None)


def test_a_hint_wakes_those_who_serve_the_queue(hearing):
    with listening("near", worker=1) as near, listening("far", worker=2) as far:
        transports.hint_work("far")
        far.wait()
        transports.hint_work("near")
        near.wait()
        assert (near.wakes, far.wakes) == (1, 1)


def test_a_message_wakes_the_worker_that_it_is_for(hearing):
    with listening("one", worker=71) as one, listening("other", worker=72) as other:
        transports.hint_message(72)
        other.wait()
        transports.hint_message(71)
        one.wait()
        assert (one.wakes, other.wakes) == (1, 1)


def test_a_queue_may_have_any_name(hearing):
    name = "Grüße an:alle\n* " * 20
    with listening(name) as ear:
        transports.hint_work(name)
        ear.wait()


def test_hints_that_follow_closely_on_one_another_are_not_all_lost(hearing):
    with listening("default") as ear:
        for expected in range(1, 6):
            while ear.wakes < expected:
                transports.hint_work("default")
                time.sleep(STEP)


def test_a_listener_that_is_closed_hears_nothing(hearing):
    with listening("default", worker=1) as closed:
        pass
    with listening("default", worker=2) as open_one:
        transports.hint_work("default")
        open_one.wait()
    assert closed.wakes == 0


def test_a_worker_that_does_not_look_by_itself_is_woken_by_a_start(hearing, make_worker, configure):
    configure(POLL_SECONDS=NEVER)
    wait_until_hears(make_worker())
    handle = durable.start_workflow(workflows.chain, 3)
    assert handle.result(timeout=DEADLINE) == 3
    assert_invariants(handle)


def test_the_end_of_a_run_from_outside_gives_its_place_to_another_one(hearing, make_worker, configure):
    configure(POLL_SECONDS=NEVER)
    durable.set_queue("limited", counts="workflows", concurrency=1)
    wait_until_hears(make_worker(queues=("limited",)))
    first, second = [durable.start_workflow(workflows.approval.using(queue="limited")) for _ in range(2)]
    asleep(first)
    assert first.terminate()
    wait_for(lambda: second.status().started_at, "the next to begin")


def test_it_is_woken_by_a_message_for_a_run_that_sleeps(hearing, make_worker, configure):
    configure(POLL_SECONDS=NEVER)
    wait_until_hears(make_worker())
    handle = durable.start_workflow(workflows.approval, 3_600.0)
    asleep(handle)
    handle.signal(workflows.approved("awake"))
    assert handle.result(timeout=DEADLINE) == "awake"


def test_it_is_woken_by_a_message_for_a_run_that_it_has_in_hand(
    hearing, make_worker, make_gate, configure, monkeypatch
):
    monkeypatch.setattr(pace, "MESSAGES_PATIENCE", 0.0)  # a search that is put off is not made up for here
    monkeypatch.setattr(pace, "MESSAGES_BACKOFF", 0.0)
    configure(POLL_SECONDS=NEVER)
    gate = make_gate(GATE)
    worker = make_worker()
    wait_until_hears(worker)
    handle = durable.start_workflow(workflows.hold_then_collect, GATE, 1)
    wait_for(lambda: Dispatch.objects.filter(owner=worker.id).exists(), "the run to be owned")
    handle.signal(workflows.approved("heard"))
    wait_for(lambda: any(one.type == "SignalReceived" for one in handle.history()), "the signal to be received")
    gate.set()
    assert handle.result(timeout=DEADLINE) == ["heard"]


def test_it_is_woken_by_a_schedule(hearing, make_worker, configure):
    configure(POLL_SECONDS=NEVER)
    wait_until_hears(make_worker())
    schedule = durable.create_schedule("soon", Schedule(every=timedelta(days=1)), workflows.echo, "x")
    schedule.trigger()
    wait_for(lambda: WorkflowRun.objects.filter(schedule="soon", status="completed").exists(), "its run")


def test_what_a_worker_hands_to_another_queue_wakes_the_workers_there(hearing, make_worker, configure):
    configure(POLL_SECONDS=NEVER)
    wait_until_hears(make_worker())
    wait_until_hears(make_worker(queues=("elsewhere",)))
    handle = durable.start_workflow(workflows.call_elsewhere, "flows.nothing", [7])
    assert handle.result(timeout=DEADLINE) == 7


def test_a_resumed_workflow_wakes_its_workers(hearing, make_worker, configure):
    configure(POLL_SECONDS=NEVER)
    wait_until_hears(make_worker())
    handle = durable.start_workflow(workflows.approval, 3_600.0)
    asleep(handle)
    handle.pause()
    wait_for(lambda: handle.status().status == "paused", "the pause")
    handle.signal(workflows.approved("later"))
    handle.resume()
    assert handle.result(timeout=DEADLINE) == "later"


def test_without_any_hint_everything_happens_all_the_same(deaf, make_worker, configure):
    configure(POLL_SECONDS=None)
    wait_until_hears(make_worker())
    approvals = [durable.start_workflow(workflows.approval, 3_600.0) for _ in range(10)]
    effects = [durable.start_workflow(workflows.effects, f"run{number}", 3) for number in range(10)]
    for handle in approvals:
        handle.signal(workflows.approved("found"))
    assert [handle.result(timeout=DEADLINE) for handle in approvals] == ["found"] * 10
    assert [one.result(timeout=DEADLINE) for one in effects]
    assert Entry.objects.count() == 30
    assert_all_invariants([*approvals, *effects])


def test_a_hint_that_comes_far_too_often_does_what_it_does_once(hearing, make_worker):
    workers = [make_worker(), make_worker()]
    for worker in workers:
        wait_until_hears(worker)
    handles = [durable.start_workflow(workflows.effects, f"run{number}", 3) for number in range(20)]
    for worker in workers:
        hearing.flood("default", worker.id, hearing.many)
    for handle in handles:
        handle.result(timeout=DEADLINE)
        hearing.flood("default", workers[0].id, 10)
    assert Entry.objects.count() == 60
    assert_all_invariants(handles)


@pytest.mark.slow
def test_two_hundred_workflows_lose_nothing_when_all_that_is_under_way_is_wiped(way, make_worker, configure):
    configure(POLL_SECONDS=None)
    for _ in range(2):
        make_worker()
    handles = []
    for number in range(200):
        handles.append(durable.start_workflow(workflows.effects, f"run{number}", 2))
        if number % 50 == 25:
            way.wipe()
    for handle in handles:
        handle.result(timeout=DEADLINE)
    assert Entry.objects.count() == 400
    assert Entry.objects.values("key").distinct().count() == 400
    assert_all_invariants(handles)
