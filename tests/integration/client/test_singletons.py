"""One run for a key: singletons, whatever their ids, and starts that are put together."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.db import transaction

from django_durable import Debounce, DefinitionError, WorkflowAlreadyStarted, durable
from django_durable.models import DebouncedStart, Dispatch, HistoryEvent, WorkflowRun
from django_durable.store import clock
from django_durable.testing import environment
from tests.flows import workflows
from tests.integration.store.sessions import all_at_once

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
WAIT = timedelta(seconds=10)


@pytest.fixture
def at_noon() -> Iterator[None]:
    clock.stand_still_at(NOON)
    yield
    clock.stand_still_at(None)


def begins(handle):
    return Dispatch.objects.get(pk=handle.run_id).wakeup_at


# Singletons


def test_a_second_run_of_a_singleton_is_refused_under_any_id():
    alone = workflows.approval.using(singleton_key="shop")
    first = durable.start_workflow(alone.using(workflow_id="a"))
    with pytest.raises(WorkflowAlreadyStarted, match="singleton_key 'shop'") as refused:
        durable.start_workflow(alone.using(workflow_id="b"))
    assert (refused.value.workflow_id, refused.value.run_id) == ("a", first.run_id)
    assert WorkflowRun.objects.count() == 1


def test_another_key_and_another_workflow_are_none_of_its_business():
    durable.start_workflow(workflows.approval.using(singleton_key="shop"))
    durable.start_workflow(workflows.approval.using(singleton_key="other"))
    durable.start_workflow(workflows.echo.using(singleton_key="shop"), 1)
    durable.start_workflow(workflows.approval)
    assert WorkflowRun.objects.count() == 4


def test_a_start_can_take_what_there_is():
    alone = workflows.approval.using(singleton_key="shop", on_conflict="use_existing")
    first = durable.start_workflow(alone.using(workflow_id="a"))
    handles = durable.start_workflows([alone.using(workflow_id="b").call(), alone.call()])
    handles.append(durable.signal_with_start(workflows.approved("yes"), alone.using(workflow_id="c")))
    assert {(one.workflow_id, one.run_id) for one in handles} == {("a", first.run_id)}


def test_a_start_can_end_what_there_is():
    alone = workflows.approval.using(singleton_key="shop", on_conflict="terminate_existing")
    first, second = durable.start_workflow(alone), durable.start_workflow(alone)
    assert (first.status().status, second.status().status) == ("terminated", "pending")


def test_the_key_is_free_once_the_chain_has_ended_and_not_before():
    with environment() as env:
        alone = workflows.counts_down.using(singleton_key="shop")
        env.start(alone, 3)
        env.run_until_idle()
        assert WorkflowRun.objects.filter(open_singleton__isnull=False).count() == 0
        again = durable.start_workflow(workflows.generations.using(singleton_key="shop"))
        env.run_until_idle()
        assert WorkflowRun.objects.filter(open_singleton__isnull=False).count() == 1
        again.terminate()
        durable.start_workflow(workflows.generations.using(singleton_key="shop"))


def test_a_run_that_goes_on_after_its_end_needs_its_key_again():
    with environment() as env:
        alone = workflows.fail.using(singleton_key="shop")
        failed = env.start(alone, "once")
        env.run_until_idle()
        other = durable.start_workflow(alone, "twice")
        with pytest.raises(WorkflowAlreadyStarted, match="singleton_key"):
            failed.retry_failed()
        env.run_until_idle()
        assert other.status().status == "failed"
        failed.retry_failed()
        assert WorkflowRun.objects.filter(open_singleton__isnull=False).count() == 1


def test_a_child_is_refused_as_any_other_and_its_parent_hears_of_it():
    with environment() as env:
        durable.start_workflow(workflows.approval.using(singleton_key="shop"))
        parent = env.start(workflows.parent_catches, "flows.approval", [], {"singleton_key": "shop"})
        env.run_until_idle()
        assert parent.result()["causes"][0][0] == "WorkflowAlreadyStarted"


def test_of_starts_that_come_together_one_is_the_singleton():
    alone = workflows.approval.using(singleton_key="shop", on_conflict="use_existing")
    handles = all_at_once([lambda: durable.start_workflow(alone)] * 4)
    assert len({one.run_id for one in handles}) == WorkflowRun.objects.count() == 1


# Debounce


@pytest.mark.usefixtures("at_noon")
def test_starts_that_follow_each_other_are_one_run_with_the_last_arguments():
    put_together = workflows.echo.using(debounce=Debounce("cart", wait=WAIT))
    first = durable.start_workflow(put_together.using(workflow_id="first"), 1)
    clock.stand_still_at(NOON + timedelta(seconds=4))
    with durable.actor("ada"):
        second = durable.start_workflow(put_together.using(workflow_id="second"), 2)

    assert (second.workflow_id, second.run_id) == ("first", first.run_id)
    assert begins(first) == NOON + timedelta(seconds=14)
    [run] = WorkflowRun.objects.all()
    [event] = HistoryEvent.objects.all()
    assert '{"value":2}' in run.input
    assert '{"value":2}' in event.data
    assert event.time == NOON + timedelta(seconds=14)
    assert "ada" in str(run.headers)
    assert first.status().started_at is None


def test_what_was_put_together_runs_once_and_then_the_next_burst_is_another_run():
    with environment() as env:
        put_together = workflows.echo.using(debounce=Debounce("cart", wait=WAIT))
        handles = [durable.start_workflow(put_together, number) for number in range(3)]
        env.run_until_idle()
        assert handles[0].status().started_at is None
        env.advance(timedelta(seconds=11))
        assert handles[0].result() == 2
        assert DebouncedStart.objects.count() == 0
        later = durable.start_workflow(put_together, 3)
        env.advance(timedelta(seconds=11))
        assert later.result() == 3
    assert len({one.run_id for one in handles}) == 1
    assert WorkflowRun.objects.count() == 2


@pytest.mark.usefixtures("at_noon")
def test_it_does_not_wait_longer_than_it_may():
    put_together = workflows.echo.using(
        debounce=Debounce("cart", wait=WAIT, max_wait=timedelta(seconds=15)), run_timeout=timedelta(hours=1)
    )
    handle = durable.start_workflow(put_together, 1)
    for seconds in (6, 12):
        clock.stand_still_at(NOON + timedelta(seconds=seconds))
        durable.start_workflow(put_together, seconds)
    assert begins(handle) == NOON + timedelta(seconds=15)
    assert Dispatch.objects.get().deadline == NOON + timedelta(hours=1, seconds=15)


def test_a_run_that_has_begun_or_ended_is_left_alone():
    with environment() as env:
        put_together = workflows.generations.using(debounce=Debounce("cart", wait=WAIT))
        first = durable.start_workflow(put_together)
        env.advance(WAIT * 2)
        second = durable.start_workflow(put_together)
        second.terminate()
        third = durable.start_workflow(put_together)
    assert len({one.run_id for one in (first, second, third)}) == 3


def test_a_start_that_is_rolled_back_has_changed_nothing():
    put_together = workflows.echo.using(debounce=Debounce("cart", wait=WAIT))
    handle = durable.start_workflow(put_together, 1)
    before = begins(handle)
    with transaction.atomic():
        durable.start_workflow(put_together, 2)
        transaction.set_rollback(True)
    assert '{"value":1}' in WorkflowRun.objects.get().input
    assert begins(handle) == before


def test_of_starts_that_come_together_none_makes_a_second_run():
    put_together = workflows.echo.using(debounce=Debounce("cart", wait=WAIT))
    handles = all_at_once([partial(durable.start_workflow, put_together, number) for number in range(4)])
    assert len({one.run_id for one in handles}) == WorkflowRun.objects.count() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Debounce("", wait=WAIT),
        lambda: Debounce("k", wait=timedelta(0)),
        lambda: Debounce("k", wait=WAIT, max_wait=timedelta(seconds=1)),
        lambda: workflows.echo.using(debounce=WAIT),  # type: ignore[arg-type]
        lambda: workflows.echo.using(debounce=Debounce("k", wait=WAIT), start_delay=WAIT),
        lambda: workflows.echo.using(singleton_key=""),
    ],
    ids=["key", "wait", "max_wait", "value", "delay", "singleton"],
)
def test_what_could_not_work_is_refused(wrong):
    with pytest.raises(DefinitionError):
        wrong()


def test_a_child_cannot_be_put_together_with_others():
    with environment() as env:
        parent = env.start(workflows.parent_of_debounced)
        env.run_until_idle()
        assert "debounce" in (parent.status().error_message or "")
