"""Messages inside a test's environment: nothing waits for anybody."""

from __future__ import annotations

import pytest
from django.test import TestCase, TransactionTestCase

from django_durable import UpdateFailed, UpdateRejected, WorkflowClosed, durable
from django_durable.testing import environment
from tests.flows import workflows


class Shared:
    def test_signals_are_handled(self):
        with environment() as env:
            handle = env.start(workflows.notes)
            handle.signal(workflows.noted("a"))
            handle.signal("stop")
            assert handle.result() == ["a"]

    def test_updates_are_answered(self):
        with environment() as env:
            handle = env.start(workflows.cart)
            before = env.now()
            assert handle.update("add", "lamp", 2) == 2
            assert handle.update(workflows.rename("x")) == "x"
            with pytest.raises(UpdateRejected):
                handle.update("add", "lamp", 9)
            with pytest.raises(UpdateFailed):
                durable.update_workflow(handle.workflow_id, "break")
            assert (env.now() - before).total_seconds() < 60, "no time was skipped for the reply"
            assert handle.update("nap") is None
            assert (env.now() - before).total_seconds() >= 3_600
            assert handle.query("count", "lamp", plus=1) == 3
            assert [entry.waits_for for entry in handle.stack()] == ["asyncio Event.wait"]
            assert handle.update("check_out") == "thank you"
            assert handle.result() == {"lamp": 2}
            with pytest.raises(WorkflowClosed):
                handle.update("add", "lamp")


class InATestCase(Shared, TestCase):
    pass


class InATransactionTestCase(Shared, TransactionTestCase):
    pass
