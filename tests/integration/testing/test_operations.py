"""What staff do with runs, inside a test."""

from __future__ import annotations

from datetime import timedelta

from django.test import TestCase

from django_durable import durable
from django_durable.testing import environment
from tests.flows import workflows


class OperationsTest(TestCase):
    def test_a_run_rests_until_it_is_resumed(self):
        with environment() as env:
            handle = env.start(workflows.until_told)
            env.run_until_idle()
            assert handle.pause()
            handle.signal(workflows.approved("stop"))
            env.advance(timedelta(days=1))
            assert handle.status().status == "paused"
            assert handle.resume()
            assert handle.result() == 0

    def test_a_workflow_rests_by_its_name(self):
        with environment() as env:
            durable.pause_definition(workflows.echo)
            handle = env.start(workflows.echo, 1)
            env.advance(timedelta(minutes=5))
            assert handle.status().status == "pending"
            durable.resume_definition(workflows.echo)
            assert handle.result() == 1
