"""Tasks of Django's, run as activities."""

from __future__ import annotations

import pytest

from django_durable import WorkflowFailed, durable
from django_durable.definitions.registry import registry
from django_durable.models import ActivityTask
from django_durable.testing import environment
from tests.flows import errands
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


@pytest.mark.parametrize("cache", [0, 1000])
def test_a_task_is_an_activity(worker, configure, cache):
    configure(INSTANCE_CACHE_SIZE=cache)
    handle = durable.start_workflow(errands.runs_errands, "ada")
    assert handle.result(timeout=DEADLINE) == ["HELLO ada", 3, "tests.flows.errands.who_runs_it", 2]
    names = [one.data["name"] for one in handle.history() if one.type == "ActivityScheduled"]
    assert names[0] == "tests.flows.errands.greet"
    assert_invariants(handle)


def test_its_queue_and_priority_are_those_of_the_task(make_worker):
    make_worker()
    handle = durable.start_workflow(errands.queues_an_errand, "afar")
    task = wait_for(lambda: ActivityTask.objects.first(), "the row")
    assert (task.name, task.queue, task.priority) == ("tests.flows.errands.greet", "afar", -5)
    make_worker(queues=("afar",))
    assert handle.result(timeout=DEADLINE) == "Hello from afar"
    assert_invariants(handle)


def test_discovery_has_found_those_that_modules_of_apps_have_imported():
    names = {one.name for one in registry.activities()}
    assert {"tests.flows.errands.greet", "tests.flows.errands.count_letters"} <= names
    assert "tests.flows.errands.with_context" not in names


def test_other_options_come_by_its_name(worker):
    assert durable.start_workflow(errands.takes_it_by_name).result(timeout=DEADLINE) == "Hello by name"


def test_what_an_activity_cannot_give_is_told(worker):
    with pytest.raises(WorkflowFailed, match="takes a context"):
        durable.start_workflow(errands.wants_a_context).result(timeout=DEADLINE)


def test_its_arguments_are_checked_against_its_annotations(worker):
    handle = durable.start_workflow(errands.passes_what_does_not_fit)
    with pytest.raises(WorkflowFailed, match="name"):
        handle.result(timeout=DEADLINE)


def test_a_task_can_be_mocked():
    with environment() as env:
        env.mock(errands.greet, lambda name, loudly: f"{name}, mocked")
        env.mock(errands.who_runs_it, list)
        handle = env.start(errands.runs_errands, "ada")
        assert handle.result() == ["ada, mocked", 3]
