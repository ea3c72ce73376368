"""Activities replaced by functions of the test."""

from __future__ import annotations

from unittest.mock import AsyncMock
from unittest.mock import Mock as AnyMock

import pytest

from django_durable import ApplicationError, UnknownDefinition, WorkflowFailed, durable
from django_durable.testing.plugin import durable_env
from tests.flows import activities, workflows

__all__ = ["durable_env"]

pytestmark = pytest.mark.django_db


def test_a_mock_gets_the_arguments_and_gives_the_result(durable_env):
    with durable_env.mock(activities.add, lambda first, second: first + second * 10) as mock:
        assert durable_env.start(workflows.chain, 3).result() == 30
    assert mock.calls == [((0, 1), {}), ((10, 1), {}), ((20, 1), {})]


def test_afterwards_the_activity_runs_again(durable_env):
    with durable_env.mock(activities.add, lambda first, second: 100):
        assert durable_env.start(workflows.chain, 1).result() == 100
    assert durable_env.start(workflows.chain, 1).result() == 1
    mock = durable_env.mock(activities.add, lambda first, second: 200)
    with durable_env.mock(activities.add, lambda first, second: 300):
        assert durable_env.start(workflows.chain, 1).result() == 300
    assert durable_env.start(workflows.chain, 1).result() == 200
    mock.stop()
    mock.stop()
    assert durable_env.start(workflows.chain, 1).result() == 1


def test_copies_and_names_mean_the_same_activity(durable_env):
    durable_env.mock("flows.record", lambda kind, key, seconds=0.0: key.upper())
    assert durable_env.start(workflows.all_in_one_place, ["1"]).result() == ["1"]
    durable_env.mock(durable.activity_named("flows.record"), lambda *args: "named")
    assert durable_env.start(workflows.all_in_one_place, ["1"]).result() == ["named"]
    durable_env.mock(activities.record.using(priority=3), lambda *args: "copied")
    assert durable_env.start(workflows.all_in_one_place, ["1"]).result() == ["copied"]


def test_what_a_mock_raises_is_the_failure(durable_env):
    def decline(first: int, second: int) -> int:
        raise ApplicationError("no money", type="CardDeclined", non_retryable=True)

    with durable_env.mock(activities.add, decline) as mock:
        with pytest.raises(WorkflowFailed) as failed:
            durable_env.start(workflows.chain, 1).result()
    assert failed.value.cause is not None
    assert failed.value.cause.__cause__.type == "CardDeclined"  # type: ignore[union-attr]
    assert len(mock.calls) == 1


def test_a_mock_may_fail_before_it_succeeds(durable_env):
    outcomes = [ConnectionError("first"), TimeoutError("second"), 7]
    durable_env.mock(activities.add, AnyMock(side_effect=outcomes))
    assert durable_env.start(workflows.chain, 1).result() == 7


@pytest.mark.parametrize("activity", [activities.add, activities.nothing_async])
@pytest.mark.parametrize("kind", [AnyMock, AsyncMock])
def test_sync_and_async_functions_stand_for_both_kinds(durable_env, activity, kind):
    durable_env.mock(activity, kind(return_value=5))
    flow = workflows.chain if activity is activities.add else workflows.chain_async
    assert durable_env.start(flow, 1).result() == 5


def test_a_mock_is_an_activity(durable_env):
    keys = []

    def note(first: int, second: int) -> int:
        keys.append(durable.current_activity().idempotency_key)
        return 1

    durable_env.mock(activities.add, note)
    durable_env.start(workflows.chain, 2).result()
    assert len(set(keys)) == 2


def test_mocks_of_atomic_activities_commit_with_them(durable_env):
    durable_env.mock(activities.record_once, lambda *args: "mocked")
    assert durable_env.start(workflows.effects, "a", 2).result() == ["a/0", "mocked"]


def test_wrong_mocks_are_told_at_once(durable_env):
    with pytest.raises(TypeError, match=r"For a fixed result: mock\(activity, lambda"):
        durable_env.mock(activities.add, 7)
    with pytest.raises(UnknownDefinition, match=r"flows\.ad"):
        durable_env.mock("flows.ad", lambda: 1)
    with pytest.raises(TypeError, match="needs an activity"):
        durable_env.mock(lambda: 1, lambda: 1)
    assert durable_env.start(workflows.chain, 1).result() == 1
