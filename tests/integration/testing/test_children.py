"""Children, chains and delays inside a test: no worker, no thread, no waiting."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import TestCase

from django_durable import WorkflowCancelled, WorkflowTimedOut, durable
from django_durable.models import WorkflowRun
from django_durable.testing import environment
from tests.flows import workflows
from tests.flows.models import Entry


class ChildrenTest(TestCase):
    def test_children_run_and_reply(self):
        with environment() as env:
            assert env.start(workflows.parent_of_sum, 3).result() == 6

    def test_a_child_with_an_id_of_its_own_is_started(self):
        with environment() as env:
            handle = env.start(workflows.parent_by_name, "flows.adds", [1, 2], {"workflow_id": "named"})
            assert handle.result() == 3

    def test_a_child_whose_id_is_taken(self):
        with environment() as env:
            env.start(workflows.never_ends.using(workflow_id="named"))
            handle = env.start(workflows.parent_catches, "flows.adds", [1, 2], {"workflow_id": "named"})
            assert handle.result()["type"] == "WorkflowAlreadyStarted"

    def test_children_end_with_their_parent(self):
        with environment() as env:
            handle = env.start(workflows.parent_that_waits, "flows.never_ends", [], {"workflow_id": "left"})
            env.run_until_idle()
            handle.signal(workflows.approved("leave"))
            env.run_until_idle()
            assert handle.result() == "left"
            assert durable.get_workflow("left").status().status == "terminated"

    def test_cancelling_goes_down_and_comes_back_up(self):
        with environment() as env:
            handle = env.start(workflows.never_ends_below, 2)
            env.run_until_idle()
            handle.cancel()
            with pytest.raises(WorkflowCancelled):
                handle.result()
            assert [entry.key for entry in Entry.objects.order_by("pk")] == ["0", "1", "2"]

    def test_chains_and_retries(self):
        with environment() as env:
            assert env.start(workflows.counts_down, 3).result()[0] == 3
            assert env.start(workflows.fails_at_first, 2).result()[0] == 3

    def test_delays_and_time_limits_pass_at_once(self):
        with environment() as env:
            assert env.start(workflows.echo.using(start_delay=timedelta(days=30)), 1).result() == 1
            limited = env.start(workflows.never_ends.using(run_timeout=timedelta(days=30)))
            with pytest.raises(WorkflowTimedOut):
                limited.result()
            assert WorkflowRun.objects.filter(status="timed_out").count() == 1
