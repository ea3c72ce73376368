"""What a test's environment adds for families of workflows: skipped time, replays, the deaths of their workers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_durable import durable
from django_durable.models import WorkflowRun
from django_durable.testing import assert_replays, crash_everywhere
from django_durable.testing.plugin import durable_env
from tests.flows import workflows

__all__ = ["durable_env"]

pytestmark = pytest.mark.django_db


def test_children_and_their_children_end_before_their_parent(durable_env):
    assert durable_env.start(workflows.parent_of_sum, 5).result() == sum(range(5)) + 5
    assert len(durable_env.start(workflows.family, 3).result()) == 4


def test_time_is_skipped_to_the_timers_of_children(durable_env):
    before = durable_env.now()
    assert durable_env.start(workflows.parent_by_name, "flows.nap", [86_400], {}).result() == "rested"
    assert durable_env.now() - before == timedelta(days=1)


def test_a_child_outlives_its_parent_as_its_policy_says(durable_env):
    for policy, status in (("abandon", "running"), ("terminate", "terminated"), ("cancel", "cancelled")):
        options: dict[str, Any] = {"workflow_id": policy, "parent_close": policy}
        durable_env.start(workflows.parent_that_returns, "flows.never_ends", [], options).result()
        durable_env.run_until_idle()
        assert durable.get_workflow_status(policy).status == status


def test_parents_and_children_replay(durable_env):
    handle = durable_env.start(workflows.family, 2)
    handle.result()
    for run in WorkflowRun.objects.all():
        assert_replays(durable.get_workflow(run.workflow_id))


@pytest.mark.parametrize(
    ("definition", "args"),
    [
        (workflows.parent_of_sum, (3,)),
        (workflows.parent_by_name, ("flows.nap", [60], {"workflow_id": "named"})),
        (workflows.parent_catches, ("flows.fail", ["no"], {})),
        (workflows.parent_tried_again, ()),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_families_end_alike_whenever_their_worker_dies(definition, args):
    assert crash_everywhere(definition, *args) >= 3
