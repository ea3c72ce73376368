"""Changing one command in the code is caught by every recorded history whose replay reaches the change."""

from __future__ import annotations

import pytest

from django_durable.engine.instance import Instance
from django_durable.exceptions import NonDeterminismError
from tests.replay import mutations
from tests.replay.stories import HERE, STORIES, read
from tests.replay.workflows import WORKFLOWS
from tests.unit.engine_harness import INFO

FILES = sorted(HERE.glob("*.json"))
HISTORIES = {path.stem: read(path) for path in FILES}
WITHOUT_EFFECT = {
    # The signal has come before the wait for it, which so starts no timer.
    ("order", "a longer wait", "ctx.wait_signal(RATED, timeout=timedelta(days=14))"),
}
MUTATIONS = [one for one in mutations.all_of() if (one.workflow, one.kind, one.source) not in WITHOUT_EFFECT]


def histories_of(workflow: str) -> list[str]:
    return [name for name in HISTORIES if name.rpartition("-py")[0] == workflow]


def caught(mutation: mutations.Mutation, name: str) -> bool | None:
    """Whether the replay of that history notices the change; None: it does not come there."""
    workflows, touched = mutations.run(mutation)
    instance = Instance(workflows[mutation.workflow], INFO)
    try:
        instance.replay(HISTORIES[name])
    except NonDeterminismError as error:
        return bool(error.recorded and error.requested and error.event)
    finally:
        instance.evict()
    return False if touched else None


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_changed_command_is_caught_by_every_history_that_it_touches(mutation):
    verdicts = {name: caught(mutation, name) for name in histories_of(mutation.workflow)}
    assert False not in verdicts.values(), verdicts


def test_most_changes_are_reached_by_a_history():
    reached = [any(caught(one, name) for name in histories_of(one.workflow)) for one in MUTATIONS]
    assert sum(reached) > 0.8 * len(reached)


def test_every_workflow_is_changed():
    assert {one.workflow for one in MUTATIONS} >= set(STORIES) - {"updated"} - {"update_cut_short"}
    assert len(MUTATIONS) > 60


def test_the_unchanged_module_is_not_at_fault():
    for name, history in HISTORIES.items():
        instance = Instance(WORKFLOWS[name.rpartition("-py")[0]], INFO)
        instance.replay(history)
        instance.evict()
