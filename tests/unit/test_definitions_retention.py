"""How long ended workflows are kept: the settings, the declarations, and which of them has the last word."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_durable import DefinitionError
from django_durable.definitions.retention import CONTINUED, ENDS, STATUSES, Policy, read
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.history.status import CLOSED, Status

DAY = timedelta(days=1)


def test_a_chain_ends_in_every_closed_status_but_one():
    assert set(ENDS) == CLOSED - {Status.CONTINUED_AS_NEW}
    assert set(STATUSES) == CLOSED
    assert CONTINUED == Status.CONTINUED_AS_NEW


def test_one_duration_is_for_all_statuses_and_none_is_for_none():
    assert read(DAY, owner="x") == dict.fromkeys(STATUSES, DAY)
    assert read(None, owner="x") == {}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"complete": DAY}, "Did you mean 'completed'"),
        ({"running": DAY}, "no end 'running'"),
        ({"completed": 30}, r"x\['completed'\] must be a timedelta"),
        (30, "x must be a timedelta"),
        ({"failed": timedelta(seconds=59)}, "at least a minute"),
        (-DAY, "at least a minute"),
    ],
    ids=str,
)
def test_what_could_not_work_is_refused_where_it_is_written(wrong, words):
    with pytest.raises(DefinitionError, match=words):
        read(wrong, owner="x")
    with pytest.raises(DefinitionError):
        Policy(wrong)
    with pytest.raises(DefinitionError, match="WORKFLOWS"):
        Policy({"WORKFLOWS": {"shop.order": wrong}})


def test_the_settings_name_a_workflow_and_have_the_last_word():
    policy = Policy({"completed": DAY, "failed": 9 * DAY, "WORKFLOWS": {"shop.order": {"failed": None}}})
    assert policy.names == {"shop.order"}
    assert policy.of("shop.other", {}) == {"completed": DAY, "failed": 9 * DAY}
    assert policy.of("shop.other", {"completed": 5 * DAY}) == {"completed": 5 * DAY, "failed": 9 * DAY}
    assert policy.of("shop.order", {"failed": DAY, "cancelled": DAY}) == {
        "completed": DAY,
        "failed": None,
        "cancelled": DAY,
    }


async def flow(ctx: object) -> None:
    """Does nothing."""


def test_a_declaration_has_a_retention_of_its_own():
    assert WorkflowDefinition(flow, name="t", retention=DAY).retention == dict.fromkeys(STATUSES, DAY)
    with pytest.raises(DefinitionError, match="Workflow t: retention"):
        WorkflowDefinition(flow, name="t", retention={"done": DAY})
