"""Names, ids and keys are what they are: nothing that only looks alike is taken for the same."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_durable import Debounce, Schedule, WorkflowAlreadyStarted, WorkflowNotFound, durable
from django_durable.models import Dispatch, WorkflowRun
from django_durable.store import updates
from tests.flows import workflows
from tests.integration.store import chains

pytestmark = pytest.mark.django_db(transaction=True)

ALIKE = [
    pytest.param("order-a", "order-A", id="case"),
    pytest.param("cafe", "café", id="accent"),
    pytest.param("caf\u00e9", "cafe\u0301", id="composition"),
    pytest.param("strasse", "straße", id="ligature"),
    pytest.param("order", "order ", id="trailing blank"),
    pytest.param("order", " order", id="leading blank"),
    pytest.param("order🍏", "order🍎", id="beyond the basic plane"),
]
"""What some collation or other calls equal."""

alike = pytest.mark.parametrize(("one", "other"), ALIKE)


@alike
def test_ids_of_workflows(one, other):
    first = durable.start_workflow(workflows.approval.using(workflow_id=one))
    with pytest.raises(WorkflowNotFound):
        durable.get_workflow(other).status()
    second = durable.start_workflow(workflows.approval.using(workflow_id=other))
    assert [durable.get_workflow(name).status().run_id for name in (one, other)] == [first.run_id, second.run_id]
    with pytest.raises(WorkflowAlreadyStarted) as refused:
        durable.start_workflow(workflows.approval.using(workflow_id=other))
    assert refused.value.run_id == second.run_id
    durable.signal_workflow(other, workflows.approved("yes"))
    assert [chains.waiting(run.run_id) for run in (first, second)] == [[], ["approved"]]


@alike
def test_keys_of_singletons_and_of_starts_that_are_put_together(one, other):
    for key in (one, other):
        durable.start_workflow(workflows.approval.using(singleton_key=key))
        durable.start_workflow(workflows.echo.using(debounce=Debounce(key, wait=timedelta(hours=1))), 1)
    assert WorkflowRun.objects.count() == 4


@alike
def test_names_of_queues(one, other):
    chains.start(queue=one)
    owner = chains.worker()
    assert chains.claim(owner, queue=other) == []
    assert len(chains.claim(owner, queue=one)) == 1


@alike
def test_names_of_schedules(one, other):
    for number, name in enumerate((one, other)):
        durable.create_schedule(name, Schedule(every=timedelta(hours=1), paused=True), workflows.echo, number)
    durable.get_schedule(one).delete()
    assert durable.get_schedule(other).upcoming(1)


@alike
def test_ids_of_updates(one, other):
    chain = chains.start()
    assert updates.add(chain, one, "add")
    assert updates.add(chain, other, "add")
    assert not updates.add(chain, other, "add")


@alike
def test_partition_keys(one, other):
    for key in (one, other):
        durable.start_workflow(workflows.echo.using(partition_key=key), 1)
    assert Dispatch.objects.filter(partition_key=other).count() == 1
    assert Dispatch.objects.values_list("partition_key").distinct().count() == 2


@alike
def test_values_of_attributes(one, other):
    for value in (one, other):
        durable.start_workflow(workflows.echo.using(attributes={"shop": value}), 1)
    [found] = WorkflowRun.objects.with_attributes(shop=other)
    assert durable.get_workflow(found.workflow_id).status().attributes == {"shop": other}
