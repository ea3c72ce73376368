"""``crash_everywhere`` kills the worker after each write, and tells when that makes a difference."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection

from django_durable.models import WorkflowRun
from django_durable.testing import crash_everywhere, environment
from django_durable.testing.plugin import durable_env
from tests.flows import activities, workflows
from tests.flows.models import Entry

__all__ = ["durable_env"]


def after_a_second(env, handle):
    env.advance(timedelta(seconds=1))
    handle.signal("approved", "word")


def cancel_once_it_sleeps(env, handle):
    env.run_until_idle()
    handle.cancel("enough")


@pytest.fixture(params=["cache", pytest.param("no cache", marks=pytest.mark.sqlite)])
def cache(request, settings):
    settings.DURABLE = {"INSTANCE_CACHE_SIZE": 1_000 if request.param == "cache" else 0}


@pytest.mark.django_db
@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("definition", "args", "meanwhile", "least"),
    [
        (workflows.effects, ("a", 4), None, 5),
        (workflows.chain_async, (3,), None, 4),
        (workflows.fan_out, (20,), None, 2),
        (workflows.everything, ("k",), after_a_second, 4),
        (workflows.nap, (3_600,), None, 2),
        (workflows.catch, ("flows.fail_always", ["no"]), None, 3),
        (workflows.fail_with_cause, (), None, 1),
        (workflows.counts_down, (3,), None, 8),
        (workflows.fails_at_first, (2,), None, 6),
        (workflows.all_in_one_place, (["1", "2"],), None, 2),
        (workflows.clean_up_when_cancelled, ("k",), lambda env, handle: handle.cancel("enough"), 2),
        (workflows.clean_up_when_cancelled, ("k",), cancel_once_it_sleeps, 3),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_runs_end_alike_whenever_their_worker_dies(definition, args, meanwhile, least):
    assert crash_everywhere(definition, *args, meanwhile=meanwhile) >= least
    assert not WorkflowRun.objects.exists()
    assert not Entry.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_it_leaves_nothing_behind_without_a_tests_transaction(durable_env):
    assert not connection.in_atomic_block
    before = durable_env.now()
    assert crash_everywhere(workflows.effects, "a", 4) >= 5
    assert not WorkflowRun.objects.exists()
    assert durable_env.now() == before
    assert durable_env.start(workflows.chain, 1).result() == 1


@pytest.mark.django_db
def test_mocks_of_the_environment_are_used(durable_env):
    mock = durable_env.mock(activities.add, lambda first, second: first + second)
    writes = crash_everywhere(workflows.chain, 3)
    assert len(mock.calls) >= 3 * (writes + 2)


@pytest.mark.django_db
def test_exactly_once_is_that_under_every_crash(durable_env):
    """The harness dies after each write as well, and then counts what the atomic activity has written."""
    counts = []

    def count(first: int, second: int) -> int:
        counts.append(Entry.objects.filter(kind="atomic").count())
        return first

    durable_env.mock(activities.add, count)
    crash_everywhere(workflows.atomic_then_count, "k")
    assert set(counts) == {1}


@pytest.mark.django_db
def test_a_result_that_depends_on_the_number_of_attempts_is_found(durable_env):
    with pytest.raises(AssertionError, match=r"(?s)dies after write 1 of 2.*instead of.*RunCompleted"):
        crash_everywhere(workflows.call, "flows.fail_until", ["k", 1])


@pytest.mark.django_db
def test_at_most_once_activities_fail_where_a_crash_may_have_cut_them_short(durable_env):
    with pytest.raises(AssertionError, match="Interrupted"):
        crash_everywhere(workflows.call, "flows.record_at_most_once", ["once", "k"])


@pytest.mark.django_db
def test_the_environment_can_go_on_afterwards():
    with environment() as env:
        handle = env.start(workflows.approval.using(workflow_id="x"))
        env.run_until_idle()
        crash_everywhere(workflows.chain, 2)
        handle.signal("approved", "ada")
        assert handle.result() == "ada"
