"""Queues in an environment: rates go by its clock, and what waits for its place is waited for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_durable import Rate, durable
from django_durable.exceptions import WaitsInVain
from django_durable.testing import environment
from tests.flows import workflows

pytestmark = pytest.mark.django_db


def closed(handles):
    return [handle.status().status == "completed" for handle in handles]


def test_a_rate_goes_by_the_environments_clock():
    with environment() as env:
        durable.set_queue("default", rate=Rate(1, per=timedelta(minutes=1)))
        handles = [env.start(workflows.chain, 1) for _ in range(4)]
        env.run_until_idle()
        assert closed(handles) == [True, False, False, False]
        env.advance(timedelta(minutes=2))
        assert closed(handles) == [True, True, True, False]
        assert handles[3].result() == 1


def test_what_waits_for_a_paused_queue_waits_in_vain():
    with environment() as env:
        handle = env.start(workflows.chain, 1)
        durable.pause_queue("default")
        with pytest.raises(WaitsInVain, match="is paused"):
            handle.result()
        durable.resume_queue("default")
        assert handle.result() == 1


def test_keys_take_turns():
    with environment() as env:
        durable.set_queue("default", counts="workflows", concurrency=1, fair=True)
        noisy = [env.start(workflows.approval.using(partition_key="noisy")) for _ in range(3)]
        quiet = env.start(workflows.approval.using(partition_key="quiet"))
        order = []
        for _ in range(4):
            env.run_until_idle()
            [begun] = [one for one in (*noisy, quiet) if one.status().status == "running"]
            order.append("quiet" if begun == quiet else "noisy")
            begun.terminate()
    assert order == ["noisy", "quiet", "noisy", "noisy"]
