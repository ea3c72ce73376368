"""Many runs of every kind on two workers."""

from __future__ import annotations

from typing import Any

import pytest

from django_durable import durable
from django_durable.client import WorkflowHandle
from django_durable.models import ActivityTask, Dispatch, InboxMessage
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_all_invariants
from tests.integration.worker.running import DEADLINE


@pytest.mark.parametrize("cache", [1_000, 0])
def test_two_workers_carry_sixty_runs_of_every_kind(make_worker, configure, cache):
    configure(INSTANCE_CACHE_SIZE=cache)
    make_worker(concurrency=3)
    make_worker(concurrency=3)
    expected: dict[WorkflowHandle[Any], Any] = {}
    for number in range(12):
        keys = [f"{number}/{step}" for step in range(4)]
        for call, result in (
            (workflows.chain.call(number), number),
            (workflows.chain_async.call(number), number),
            (workflows.fan_out.call(number), sum(range(number))),
            (workflows.effects.call(str(number), 4), keys),
        ):
            expected[durable.start_workflows([call])[0]] = result
        collecting = durable.start_workflow(workflows.collect_signals, 3)
        for word in ("a", "b", "c"):
            collecting.signal(workflows.approved(word))
        expected[collecting] = ["a", "b", "c"]
    for handle, result in expected.items():
        assert handle.result(timeout=DEADLINE) == result
    assert_all_invariants(expected)
    assert Entry.objects.filter(kind="atomic").count() == 24
    assert Entry.objects.filter(kind="plain").count() == 24
    assert not any(table.objects.exists() for table in (Dispatch, InboxMessage, ActivityTask))
