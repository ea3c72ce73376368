"""What staff do with runs, inside a test."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.test import TestCase

from django_durable import Context, Schedule, UnsupportedInWorkflow, durable
from django_durable.client import WorkflowHandle
from django_durable.definitions.workflow import WorkflowCall
from django_durable.models import WorkflowRun
from django_durable.testing import environment
from tests.flows import workflows


class SetUpOnceTest(TestCase):
    """Django hands every test deep copies of what ``setUpTestData`` has put on the class."""

    handle: WorkflowHandle[Any]
    named: WorkflowHandle[Any]
    call: WorkflowCall

    @classmethod
    def setUpTestData(cls):
        cls.handle = durable.start_workflow(workflows.echo.using(workflow_id="shared"), {"a": 1})
        cls.named = durable.start_workflow(durable.workflow_named("flows.echo"), 2)
        cls.call = workflows.echo.using(queue="slow").call(3)

    def test_a_handle_is_the_same_workflow(self):
        with environment():
            assert self.handle == durable.get_workflow("shared")
            assert (self.handle.result(), self.named.result()) == ({"a": 1}, 2)

    def test_definitions_are_themselves(self):
        with environment() as env:
            (handle,) = durable.start_workflows([self.call])
            env.run_until_idle()
            assert handle.status().queue == "slow"
            assert self.handle.result() == {"a": 1}


VERBS: list[Callable[[], Any]] = [
    lambda: durable.start_workflow(workflows.echo, 1),
    lambda: durable.start_workflows([workflows.echo.call(1)]),
    lambda: durable.signal_workflow("a", "word"),
    lambda: durable.cancel_workflow("a"),
    lambda: durable.terminate_workflow("a"),
    lambda: durable.get_workflow("a"),
    lambda: durable.get_workflow_status("a"),
    lambda: WorkflowHandle[int]("a", UUID(int=1)).result(),
    lambda: WorkflowHandle[int]("a", UUID(int=1)).status(),
    lambda: durable.create_schedule("daily", Schedule(cron="0 4 * * *"), workflows.until_told),
]


@durable.workflow(name="testing.meddles")
async def meddles(ctx: Context) -> list[str]:
    told = []
    for verb in VERBS:
        try:
            verb()
        except UnsupportedInWorkflow as error:
            told.append(str(error))
    return told


class OperationsTest(TestCase):
    def test_the_code_of_a_workflow_is_told_to_ask_its_context(self):
        with environment() as env:
            told = env.start(meddles).result()
        assert len(told) == len(VERBS)
        assert all("ctx.start_child(" in text and "ctx.get_workflow(" in text for text in told)
        assert WorkflowRun.objects.count() == 1

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
