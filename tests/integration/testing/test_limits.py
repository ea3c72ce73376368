"""Time limits and heartbeats of activities when a test moves the clock."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from django_durable import ActivityCancelled, durable
from django_durable.testing import environment
from tests.flows import lasting

pytestmark = pytest.mark.django_db


def test_an_activity_that_nobody_begins_runs_into_its_limit_without_waiting_for_it():
    began = time.monotonic()
    with environment() as env:
        env.mock(lasting.fails_for_ever, lambda key: 1 / 0)
        handle = env.start(lasting.within, "flows.fails_for_ever", ["k"], {"schedule_to_close": 10.0})
        before = env.now()
        failure = handle.result(timeout=5)
        assert (failure["timeout"], failure["cause"]) == ("schedule_to_close", "division by zero")
        assert timedelta(0) < env.now() - before <= timedelta(seconds=10)
    assert time.monotonic() - began < 60


def test_a_silent_attempt_is_given_up_at_its_time():
    seen: list[bool] = []

    def waits(seconds: float) -> str:
        env.advance(timedelta(minutes=1))
        with pytest.raises(ActivityCancelled):
            durable.current_activity().heartbeat()
        seen.append(durable.current_activity().cancelled)
        return "late"

    with environment() as env:
        env.mock(lasting.silent, waits)
        failure = env.start(lasting.within, "flows.silent", [1.0]).result(timeout=5)
        assert failure["timeout"] == "heartbeat"
        assert seen == [True]


def test_a_beating_attempt_lives_and_the_next_one_reads_its_details():
    def fails_half_way(upto: int) -> list[int]:
        me = durable.current_activity()
        for _ in range(5):
            env.advance(timedelta(seconds=20))
            me.heartbeat([me.attempt])
        if me.attempt == 1:
            raise ConnectionError("half way")
        return [*me.heartbeat_details, me.attempt]

    with environment() as env:
        env.mock(lasting.goes_on, fails_half_way)
        assert env.start(lasting.within, "flows.goes_on", [2], {"heartbeat": 30.0}).result(timeout=5) == [1, 2]
