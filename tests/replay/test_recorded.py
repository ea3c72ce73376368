"""Histories that were recorded once, on some Python and some release, replay for ever on all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from django_durable.engine.instance import Instance
from django_durable.history import codec, events
from tests.replay.stories import HERE, STORIES, read
from tests.replay.workflows import WORKFLOWS
from tests.unit.engine_harness import INFO, recorded_commands

FILES = sorted(HERE.glob("*.json"))


def _workflow_of(path: Path) -> str:
    return path.stem.rpartition("-py")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recorded_history_replays_to_its_end(path):
    history = read(path)
    instance = Instance(WORKFLOWS[_workflow_of(path)], INFO)
    assert instance.replay(history) is None
    assert instance.closed
    assert instance.sequence == len(history)
    instance.evict()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recorded_history_goes_on_from_every_input_as_it_did(path):
    history = read(path)
    inputs = [index for index, item in enumerate(history) if item.event.is_input and index]
    for index, following in zip(inputs, [*inputs[1:], len(history)], strict=True):
        if isinstance(history[index].event, events.NOTES):
            assert following == index + 1
            continue
        instance = Instance(WORKFLOWS[_workflow_of(path)], INFO)
        instance.replay(history[:index])
        drain = instance.apply(history[index].event, history[index].time)
        issued = [_comparable(item.event) for item in recorded_commands(drain)]
        recorded = [_comparable(item.event) for item in history[index + 1 : following]]
        assert sorted(issued) == sorted(recorded)
        instance.evict()


def _comparable(event: events.Event) -> str:
    """Without what depends on order (the sequence in a key) or on the machine (the text of a traceback)."""
    if isinstance(event, events.ActivityScheduled):
        return f"{event.name} {bytes(event.input.data).decode()}"
    if isinstance(event, events.ChildScheduled):
        return f"{event.name} {bytes(event.input.data).decode()} {event.workflow_id} {event.run_id} {event.explicit}"
    if isinstance(event, events.RunFailed):
        return f"{event.failure.type} {event.failure.message}"
    if isinstance(event, events.UpdateCompleted) and event.failure is not None:
        return f"{event.id} {event.failure.type} {event.failure.message}"
    return codec.encode(event).decode()


def test_every_story_is_recorded_on_several_pythons():
    for name in STORIES:
        assert {path.stem for path in FILES} >= {f"{name}-py3.11", f"{name}-py3.12", f"{name}-py3.13"}


def test_the_recordings_hold_a_drain_whose_order_differs_between_pythons():
    first, second = (
        [type(item.event).__name__ for item in read(HERE / f"limits-py{version}.json")[1:7]]
        for version in ("3.11", "3.12")
    )
    assert first != second
    assert sorted(first) == sorted(second)
