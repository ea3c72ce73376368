"""Runs inside a test: no worker, no thread, no waiting."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.test import TestCase, TransactionTestCase

from django_durable import WorkflowFailed, durable
from django_durable.testing import environment
from tests.flows import workflows
from tests.flows.models import Entry


class Shared:
    def test_a_run_goes_from_start_to_result(self):
        with environment() as env:
            handle = env.start(workflows.effects, "a", 4)
            assert handle.status().status == "pending"
            assert handle.result() == ["a/0", "a/1", "a/2", "a/3"]
            assert Entry.objects.count() == 4
            assert [event.type for event in handle.history()][-1] == "RunCompleted"

    def test_time_is_skipped(self):
        with environment() as env:
            before = env.now()
            assert env.start(workflows.nap, 3 * 86400).result() == "rested"
            assert env.now() - before >= timedelta(days=3)

    def test_signals(self):
        with environment() as env:
            handle = env.start(workflows.approval.using(workflow_id="x"), 60.0)
            env.run_until_idle()
            assert handle.status().status == "running"
            durable.signal_workflow("x", "approved", "ada")
            env.run_until_idle()
            assert handle.result() == "ada"
            assert env.start(workflows.approval.using(workflow_id="x"), 60.0).result() == "nobody came"

    def test_all_kinds_of_activities(self):
        with environment() as env:
            assert env.start(workflows.chain_async, 3).result() == 3
            assert env.start(workflows.call, "flows.record_async", ["k"]).result() == "k: 1"
            assert env.start(workflows.call, "flows.fail_until", ["k", 3]).result() == 3
            assert env.start(workflows.call, "flows.elsewhere", ["k"]).result() == "k"
            with pytest.raises(WorkflowFailed):
                env.start(workflows.call, "flows.fail_for_good", ["no"]).result()
            assert env.start(workflows.everything, "k").result is not None

    def test_no_thread_is_left(self):
        before = set(threading.enumerate())
        with environment() as env:
            env.start(workflows.effects, "a", 4).result()
        assert set(threading.enumerate()) == before


class InATestCase(Shared, TestCase):
    pass


class InATransactionTestCase(Shared, TransactionTestCase):
    pass
