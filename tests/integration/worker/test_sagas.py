"""Runs that undo what they have done, beside real workers."""

from __future__ import annotations

import pytest

from django_durable import WorkflowCancelled, WorkflowFailed, durable
from tests.flows import sagas
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


def effects():
    return [f"{entry.kind} {entry.key}" for entry in Entry.objects.order_by("pk")]


BOOKED = ["booked flight", "booked hotel", "booked car"]
UNDONE = ["undone car", "undone hotel", "undone flight"]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("cache", [0, 1_000])
def test_a_run_that_fails_undoes_its_steps_in_reverse(make_worker, configure, cache, workers):
    configure(INSTANCE_CACHE_SIZE=cache)
    for _ in range(workers):
        make_worker()
    handle = durable.start_workflow(sagas.trip)
    handle.signal("go")
    with pytest.raises(WorkflowFailed, match="-1 is below zero"):
        handle.result(timeout=DEADLINE)
    assert effects() == BOOKED + UNDONE
    assert_invariants(handle)


@pytest.mark.parametrize("cache", [0, 1_000])
def test_a_run_that_is_cancelled_undoes_its_steps_whoever_asks_again(make_worker, configure, cache):
    configure(INSTANCE_CACHE_SIZE=cache)
    make_worker()
    handle = durable.start_workflow(sagas.trip)
    wait_for(lambda: effects() == BOOKED, "three bookings")
    for _ in range(3):
        handle.cancel("no holidays")
    with pytest.raises(WorkflowCancelled, match="no holidays"):
        handle.result(timeout=DEADLINE)
    assert effects() == BOOKED + UNDONE
    assert_invariants(handle)


def test_steps_may_be_undone_all_at_once(worker):
    handle = durable.start_workflow(sagas.trip, parallel=True)
    handle.signal("go")
    with pytest.raises(WorkflowFailed):
        handle.result(timeout=DEADLINE)
    assert sorted(effects()) == sorted(BOOKED + UNDONE)
    assert_invariants(handle)


def test_a_run_that_succeeds_undoes_nothing(worker):
    handle = durable.start_workflow(sagas.trip.using(label="the trip to Rome"), False)
    handle.signal("go")
    assert handle.result(timeout=DEADLINE) == "paid"
    assert effects() == BOOKED


def test_scopes_and_labels_are_in_the_history(worker):
    handle = durable.start_workflow(sagas.trip)
    wait_for(lambda: any(entry.type == "TimerStarted" for entry in handle.history()), "the run to wait")
    handle.signal("go")
    with pytest.raises(WorkflowFailed):
        handle.result(timeout=DEADLINE)
    asked = [entry.data for entry in handle.history() if "scope" in entry.data]
    assert [one["scope"] for one in asked if "name" in one] == [
        *("flight", "hotel", "car"),
        "",
        *["compensation"] * 3,
    ]
    assert [one["label"] for one in asked if one["label"]] == [
        "book the flight",
        "book the hotel",
        "book the car",
        "until the customer pays",
    ]
