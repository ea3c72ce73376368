"""What runs show of themselves: attributes, by which they are found, progress, and the row that they are about."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import FieldError
from django.db import transaction

from django_durable import DefinitionError, PayloadError, Schedule, WorkflowAlreadyStarted, durable
from django_durable.models import RunAttribute, WorkflowRun
from tests.flows import showing, workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, in_thread, wait_for


def progress_of(handle):
    return durable.get_workflow_status(handle.workflow_id).progress


def waits(handle):
    wait_for(lambda: (progress_of(handle) or {}).get("text") == "waiting", "the run to wait for its signal")


def found(**wanted):
    return {run.workflow_id for run in WorkflowRun.objects.with_attributes(**wanted)}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("cache", [0, 1_000])
def test_what_a_run_shows_is_there_while_it_goes_on(make_worker, configure, cache, workers):
    configure(INSTANCE_CACHE_SIZE=cache)
    for _ in range(workers):
        make_worker()
    handle = durable.start_workflow(showing.shown.using(attributes={"customer": 7}), 3)
    waits(handle)
    status = handle.status()
    assert status.progress == {"text": "waiting", "done": None, "total": None}
    assert {key: value for key, value in status.attributes.items() if key != "since"} == {
        "customer": 7,
        "state": "waiting",
        "step": 2,
    }
    assert status.attributes["since"].tzinfo is not None
    assert found(customer=7, state="waiting", step__gte=2) == {handle.workflow_id}
    handle.signal("go")
    assert handle.result(timeout=DEADLINE) == {"customer": 7, "state": "done", "step": 2}
    assert found(state="waiting") == set()
    assert progress_of(handle) == {"text": "done", "done": 3, "total": 3}
    assert handle.status().as_dict()["progress"]["done"] == 3
    assert "first" not in handle.status().attributes
    assert_invariants(handle)


def test_what_the_first_drain_shows_needs_no_event_to_be_written(worker):
    handle = durable.start_workflow(showing.shown, 0)
    waits(handle)
    assert [entry.type for entry in handle.history()] == ["RunStarted"]
    handle.cancel()


def test_attributes_belong_to_the_chain(worker):
    handle = durable.start_workflow(showing.shown.using(attributes={"customer": 7}), 1, True)
    handle.signal("go")
    wait_for(lambda: WorkflowRun.objects.filter(workflow_id=handle.workflow_id).count() == 2, "the next run")
    handle.signal("go")
    assert handle.result(timeout=DEADLINE) == {"customer": 7, "step": 0, "first": True, "state": "done"}


def start(workflow_id, **attributes):
    durable.start_workflow(workflows.echo.using(workflow_id=workflow_id, attributes=attributes), 1)


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = uuid.UUID("018f0000-0000-7000-8000-000000000001")


@pytest.mark.usefixtures("transactional_db")
def test_runs_are_found_by_values_of_every_kind():
    start("a", name="Ada", total=Decimal("19.90"), due=NOON, day=date(2026, 3, 1), token=ID, big=2**53 + 1, paid=True)
    start("b", name="Bob", total=Decimal("20"), due=NOON + timedelta(days=1), big=2**53, paid=False)
    start("c")
    assert found(name="Ada") == {"a"}
    assert found(name__gt="Ada") == {"b"}
    assert found(total=Decimal("19.9")) == found(total=19.9) == {"a"}
    assert found(total__gte=19.9, total__lt=20) == {"a"}
    assert found(total__in=[20, 21, 19.9]) == {"a", "b"}
    assert found(total__in=[]) == set()
    assert found(due=NOON, day=date(2026, 3, 1)) == {"a"}
    assert found(due__lte=NOON + timedelta(days=1), due__gt=date(2026, 3, 1)) == {"a", "b"}
    assert found(token=ID) == found(token=str(ID)) == {"a"}
    assert found(big=2**53 + 1) == {"a"}
    assert found(paid=False) == {"b"}
    assert found(name=None) == {"c"}
    assert found(name=7) == set()
    assert found() == {"a", "b", "c"}
    assert WorkflowRun.objects.open().with_attributes(name="Ada").for_workflow("a").count() == 1


def test_a_lookup_that_does_not_exist_is_refused():
    with pytest.raises(FieldError, match="icontains"):
        WorkflowRun.objects.with_attributes(name__icontains="a")
    with pytest.raises(PayloadError):
        WorkflowRun.objects.with_attributes(name=[1])


@pytest.mark.usefixtures("transactional_db")
def test_attributes_come_and_go_with_the_start():
    with transaction.atomic():
        start("a", customer=7)
        transaction.set_rollback(True)
    assert not RunAttribute.objects.exists()
    start("b", customer=7)
    with pytest.raises(WorkflowAlreadyStarted):
        start("b", customer=8)
    assert RunAttribute.objects.get().number == 7
    many = [workflows.echo.using(attributes={"customer": number}).call(number) for number in range(3)]
    durable.start_workflows(many)
    assert WorkflowRun.objects.with_attributes(customer__in=[0, 1, 2]).count() == 3


@pytest.fixture
def entry(transactional_db):
    return Entry.objects.create(kind="order", key="7")


def test_a_run_is_found_by_the_row_that_it_is_about(entry):
    handle = durable.start_workflow(workflows.echo.using(subject=entry), 1)
    other = Entry.objects.create(kind="order", key="8")
    durable.start_workflow(workflows.echo.using(subject=other), 1)
    again = durable.start_workflow(durable.workflow_named("flows.echo").using(subject=entry), 1)
    assert [run.pk for run in WorkflowRun.objects.for_subject(entry)] == [again.run_id, handle.run_id]
    run = WorkflowRun.objects.get(pk=handle.run_id)
    assert (run.subject_type, run.subject_id, run.open_subject) == ("flows.entry", str(entry.pk), None)


def test_a_row_that_is_not_saved_is_no_subject():
    with pytest.raises(DefinitionError, match="not saved"):
        workflows.echo.using(subject=Entry(kind="order"))


def test_one_run_at_a_time_for_a_subject(entry, make_worker):
    alone = showing.shown.using(subject=entry, one_per_subject=True)
    handle = durable.start_workflow(alone, 1, True)
    for definition in (alone, alone.using(workflow_id="another", on_conflict="use_existing")):
        with pytest.raises(WorkflowAlreadyStarted, match="one_per_subject") as refused:
            durable.start_workflow(definition, 1)
        assert (refused.value.workflow_id, refused.value.run_id) == (handle.workflow_id, handle.run_id)
    with pytest.raises(WorkflowAlreadyStarted):
        durable.start_workflows([workflows.echo.call(1), alone.call(1)])
    assert WorkflowRun.objects.count() == 1
    durable.start_workflow(workflows.echo.using(subject=entry), 1)  # without the option it is nobody's business
    make_worker()
    handle.signal("go")
    wait_for(lambda: WorkflowRun.objects.filter(workflow_id=handle.workflow_id).count() == 2, "the next run")
    with pytest.raises(WorkflowAlreadyStarted):
        durable.start_workflow(alone, 1)  # the chain goes on
    handle.signal("go")
    handle.result(timeout=DEADLINE)
    durable.start_workflow(alone, 1).terminate()


@pytest.mark.server
def test_of_two_starts_for_one_subject_at_the_same_time_one_wins(entry):
    alone = workflows.echo.using(subject=entry, one_per_subject=True)
    gate = threading.Barrier(4)
    told: list[object] = []

    def start():
        gate.wait()
        try:
            told.append(durable.start_workflow(alone, 1))
        except WorkflowAlreadyStarted as error:
            told.append(error)

    threads = [in_thread(start) for _ in range(4)]
    for thread in threads:
        thread.join(DEADLINE)
    assert sum(isinstance(one, WorkflowAlreadyStarted) for one in told) == 3
    assert WorkflowRun.objects.count() == 1


def test_a_schedule_keeps_attributes_and_subject(entry, worker):
    definition = workflows.echo.using(attributes={"price": Decimal("1.50")}, subject=entry)
    durable.create_schedule("nightly", Schedule(every=timedelta(days=1)), definition, 1).trigger()
    run = wait_for(lambda: WorkflowRun.objects.for_subject(entry).first(), "the schedule to start its run")
    assert durable.get_workflow_status(run.workflow_id).attributes == {"price": Decimal("1.50")}


def test_a_child_cannot_be_started_for_a_subject_that_another_run_has(entry, worker):
    first = durable.start_workflow(showing.shown.using(subject=entry, one_per_subject=True), 0)
    second = durable.start_workflow(showing.starts_child_about, "flows.entry", str(entry.pk))
    assert "one_per_subject" in second.result(timeout=DEADLINE)
    first.cancel()
