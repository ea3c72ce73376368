"""The registry: names, duplicates, and what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from django_durable.definitions.activity import ActivityDefinition
from django_durable.definitions.registry import Registry, label_of
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.exceptions import DefinitionError, UnknownDefinition


def charge(order_id: int) -> None: ...


def pack(order_id: int) -> None: ...


async def process(ctx: Any, order_id: int) -> None: ...


async def refund(ctx: Any, order_id: int) -> None: ...


@pytest.mark.parametrize(
    ("module", "label"),
    [
        ("shop.workflows", "shop"),
        ("shop.activities", "shop"),
        ("project.apps.shop.workflows", "shop"),
        ("shop.workflows.orders", "shop"),
        ("shop.activities.payment.cards", "shop"),
        ("shop.tasks", "shop"),
        ("workflows", "workflows"),
        ("workflows.orders", "workflows"),
        ("__main__", "__main__"),
    ],
)
def test_the_label_is_the_package_that_holds_the_definitions(module: str, label: str) -> None:
    assert label_of(module) == label


def test_names_default_to_label_and_function() -> None:
    assert Registry().default_name(charge) == "unit.charge"


def test_a_resolver_knows_better_where_it_knows() -> None:
    registry = Registry()
    registry.label_with({__name__: "money"}.get)
    assert registry.default_name(charge) == "money.charge"
    registry.label_with({"other": "money"}.get)
    assert registry.default_name(charge) == "unit.charge"


def test_what_was_added_is_found_by_name() -> None:
    registry = Registry()
    activity: ActivityDefinition[..., Any] = ActivityDefinition(charge, name="x")
    workflow: WorkflowDefinition[..., Any] = WorkflowDefinition(process, name="x")
    registry.add_activity(activity)
    registry.add_workflow(workflow)
    assert registry.activity("x") is activity
    assert registry.workflow("x") is workflow
    assert list(registry) == [workflow, activity]
    assert (registry.workflows(), registry.activities(), len(registry)) == ([workflow], [activity], 2)


def test_a_name_that_is_taken_is_refused_with_both_places() -> None:
    registry = Registry()
    registry.add_activity(ActivityDefinition(charge, name="x"))
    registry.add_workflow(WorkflowDefinition(process, name="x"))
    for add, function in (
        (lambda: registry.add_activity(ActivityDefinition(pack, name="x")), pack),
        (lambda: registry.add_workflow(WorkflowDefinition(refund, name="x")), refund),
    ):
        with pytest.raises(DefinitionError) as caught:
            add()
        first = process if function is refund else charge
        for place in (first, function):
            assert f"{Path(__file__)}:{place.__code__.co_firstlineno}" in str(caught.value)
    assert registry.activity("x").function is charge


def test_the_same_place_may_be_registered_again() -> None:
    registry = Registry()
    first: ActivityDefinition[..., Any] = ActivityDefinition(charge, name="x")
    again: ActivityDefinition[..., Any] = ActivityDefinition(charge, name="x")
    registry.add_activity(first)
    registry.add_activity(again)
    assert registry.activity("x") is again


def test_an_unknown_name_suggests_near_ones() -> None:
    registry = Registry()
    registry.add_workflow(WorkflowDefinition(process, name="shop.process_order"))
    with pytest.raises(UnknownDefinition, match=r"Did you mean 'shop.process_order'\?"):
        registry.workflow("shop.proces_order")
    with pytest.raises(UnknownDefinition, match=r"No activity is called 'shop\.process_order'"):
        registry.activity("shop.process_order")


def test_versions_of_one_name_are_registered_side_by_side_and_the_last_is_what_starts_take() -> None:
    registry = Registry()
    first: WorkflowDefinition[..., Any] = WorkflowDefinition(process, name="x", version="1")
    second: WorkflowDefinition[..., Any] = WorkflowDefinition(refund, name="x", version="2")
    registry.add_workflow(first)
    assert registry.workflow("x") is first
    registry.add_workflow(second)
    assert registry.workflow("x") is second
    assert (registry.workflow("x", "1"), registry.workflow("x", "2")) == (first, second)
    assert registry.workflows() == [first, second]


def test_the_version_that_is_marked_as_the_default_is_what_starts_take_whatever_comes_later() -> None:
    registry = Registry()
    first: WorkflowDefinition[..., Any] = WorkflowDefinition(process, name="x", version="1", default=True)
    registry.add_workflow(first)
    registry.add_workflow(WorkflowDefinition(refund, name="x", version="2"))
    registry.add_workflow(WorkflowDefinition(refund, name="x"))
    assert registry.workflow("x") is first
    with pytest.raises(DefinitionError, match="Two versions"):
        registry.add_workflow(WorkflowDefinition(refund, name="x", version="3", default=True))
    assert [one.version for one in registry.workflows()] == ["1", "2", ""]


def test_the_default_may_come_last() -> None:
    registry = Registry()
    registry.add_workflow(WorkflowDefinition(process, name="x", version="1"))
    marked: WorkflowDefinition[..., Any] = WorkflowDefinition(refund, name="x", version="2", default=True)
    registry.add_workflow(marked)
    registry.add_workflow(marked)
    assert registry.workflow("x") is marked


def test_two_places_cannot_declare_the_same_version() -> None:
    registry = Registry()
    registry.add_workflow(WorkflowDefinition(process, name="x", version="1"))
    with pytest.raises(DefinitionError, match="'x'"):
        registry.add_workflow(WorkflowDefinition(refund, name="x", version="1"))


def test_an_unknown_version_is_told_from_an_unknown_name() -> None:
    registry = Registry()
    registry.add_workflow(WorkflowDefinition(process, name="shop.order", version="1"))
    with pytest.raises(UnknownDefinition, match=r"has no version '2'.*It has: '1'"):
        registry.workflow("shop.order", "2")
    with pytest.raises(UnknownDefinition, match=r"Did you mean 'shop.order'"):
        registry.workflow("shop.oder", "1")
