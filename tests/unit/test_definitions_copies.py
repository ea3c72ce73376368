"""Definitions are code: a copy of one is itself, and pickle finds it again where it is written."""

from __future__ import annotations

import copy
import pickle
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from django_durable import Retry, durable
from django_durable.client import WorkflowHandle
from django_durable.definitions.registry import Registry
from tests.flows import activities, workflows

RUN, OTHER = UUID(int=1), UUID(int=2)


@durable.activity(name="copies.picky", retry=Retry(when=lambda error: "busy" in str(error)))
def picky() -> None: ...


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("definition", [workflows.echo, activities.nothing, picky])
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_what_a_decorator_made_is_itself_again(definition, again):
    assert again(definition) is definition


CONFIGURED = [
    workflows.echo.using(workflow_id="a", priority=3, attributes={"tenant": "x"}, start_delay=timedelta(seconds=5)),
    activities.nothing.using(name="other", queue="slow", retry=Retry(max_attempts=2, non_retryable=[ValueError])),
    picky.using(queue="slow"),
]


@pytest.mark.parametrize("definition", CONFIGURED)
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_options_are_kept(definition, again):
    found = again(definition)
    assert (type(found), found.name, found.options) == (type(definition), definition.name, definition.options)
    assert found.function is definition.function


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_definitions_named_by_text_keep_their_name_and_options(again):
    workflow = again(durable.workflow_named("flows.echo").using(queue="slow"))
    activity = again(durable.activity_named("flows.nothing").using(queue="slow"))
    assert (workflow.name, workflow.options.queue, workflow.function) == ("flows.echo", "slow", workflows.echo.function)
    assert (activity.name, activity.options.queue) == ("flows.nothing", "slow")
    assert again(durable.workflow_named("flows.none", "7")).name == "flows.none"


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_a_start_as_a_value_can_be_kept(again):
    call = again(workflows.echo.using(queue="slow").call({"a": [1]}))
    assert (call.definition.name, call.definition.options.queue, call.args) == ("flows.echo", "slow", ({"a": [1]},))


def test_pickle_refuses_a_registry_of_ones_own():
    with pytest.raises(pickle.PicklingError, match="not the same object"):
        pickle.dumps(Registry())


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_a_handle_is_the_same_workflow_again(again):
    handle = WorkflowHandle[Any]("a", RUN, workflows.echo.using(workflow_id="a")).using(update_id="u")
    found = again(handle)
    assert found == handle
    assert found._update_options == handle._update_options
    assert found._definition.options.workflow_id == "a"


def test_handles_of_the_same_ids_are_equal():
    handle = WorkflowHandle[Any]("a", RUN, workflows.echo)
    assert handle == WorkflowHandle("a", RUN) == handle.using(update_id="u")
    assert len({handle, WorkflowHandle("a", RUN), WorkflowHandle("a", OTHER), WorkflowHandle("b", RUN)}) == 3
    assert handle != "a"
