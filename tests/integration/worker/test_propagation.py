"""Language, time zone and actor of the start are those of the activities, wherever they run."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone, translation

from django_durable import durable, propagation
from django_durable.models import WorkflowRun
from tests.flows import surroundings
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE

CHOSEN = ["de", "Europe/Berlin", 7]
NOTHING = ["en-us", "UTC", None]


@contextmanager
def chosen():
    with translation.override("de"), timezone.override("Europe/Berlin"), durable.actor(7):
        yield


@pytest.mark.parametrize("cache", [0, 1000])
def test_activities_of_every_kind_see_what_the_caller_had_chosen(worker, configure, cache):
    configure(INSTANCE_CACHE_SIZE=cache)
    with chosen():
        handle = durable.start_workflow(surroundings.looks)
    assert handle.result(timeout=DEADLINE) == [CHOSEN] * 5
    assert_invariants(handle)


def test_nothing_is_left_behind_in_a_thread(make_worker):
    make_worker(concurrency=1)
    with chosen():
        handles = [durable.start_workflow(surroundings.looks)]
    handles.append(durable.start_workflow(surroundings.looks))
    assert [handle.result(timeout=DEADLINE) for handle in handles] == [[CHOSEN] * 5, [NOTHING] * 5]


def test_children_and_runs_that_follow_inherit_it(make_worker):
    make_worker(), make_worker()
    with chosen():
        handle = durable.start_workflow(surroundings.looks, 2, again=True)
    assert handle.result(timeout=DEADLINE) == [CHOSEN] * 15
    assert None not in set(WorkflowRun.objects.values_list("headers", flat=True))


def test_a_run_that_is_tried_again_keeps_it(worker):
    with chosen():
        handle = durable.start_workflow(surroundings.looks_at_its_second_attempt)
    assert handle.result(timeout=DEADLINE) == CHOSEN


def test_what_an_activity_starts_goes_on_with_it(worker):
    with chosen():
        handle = durable.start_workflow(surroundings.starts_another)
    started = durable.get_workflow(handle.result(timeout=DEADLINE))
    assert started.result(timeout=DEADLINE) == [CHOSEN] * 5


def test_async_callers_have_surroundings_too(worker):
    async def start():
        with chosen():
            return await durable.astart_workflow(surroundings.looks)

    assert async_to_sync(start)().result(timeout=DEADLINE) == [CHOSEN] * 5


def test_bulk_starts_capture_it_once_for_each(worker):
    with chosen():
        handles = durable.start_workflows([surroundings.looks.call(), surroundings.looks.call()])
    assert [handle.result(timeout=DEADLINE) for handle in handles] == [[CHOSEN] * 5] * 2


def test_a_restore_that_fails_fails_the_attempt_and_not_the_worker(worker, monkeypatch):
    monkeypatch.setattr(propagation, "_users", {})

    def fail(tenant):
        raise ZeroDivisionError(tenant)

    durable.propagate("tenant", capture=lambda: "acme", restore=fail)
    handle = durable.start_workflow(surroundings.tells_why)
    assert handle.result(timeout=DEADLINE) == "ZeroDivisionError"
