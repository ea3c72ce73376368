"""Histories that today's code must repeat: from handles, files and lists; and golden ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from django_durable import DurableError, NonDeterminismError, WorkflowNotFound, durable
from django_durable.client.handle import WorkflowHandle
from django_durable.history.codec import UnreadableEvent
from django_durable.models import HistoryEvent
from django_durable.store import history as histories
from django_durable.testing import assert_golden, assert_replays
from django_durable.testing.plugin import durable_env
from django_durable.testing.replays import NOBODY
from tests.flows import workflows

__all__ = ["durable_env"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def deployed(monkeypatch):
    """Other code of ``workflows.changing``, as after a deploy."""
    return lambda: monkeypatch.setitem(workflows._versions, "changed", "nothing")


@pytest.fixture
def ended(durable_env):
    handle = durable_env.start(workflows.changing, 1)
    handle.signal("approved", "word")
    assert handle.result() == 6
    return handle


def forms(handle: WorkflowHandle[Any], tmp_path: Path) -> dict[str, tuple[Any, ...]]:
    """A run in every form that ``assert_replays`` takes."""
    assert_golden(handle, tmp_path / "changing.jsonl")
    return {
        "handle": (handle,),
        "history": (handle.history(),),
        "entries": (list(handle.history()), workflows.changing),
        "events": (histories.read([handle.run_id])[handle.run_id], workflows.changing),
        "path": (tmp_path / "changing.jsonl",),
        "text": (str(tmp_path / "changing.jsonl"),),
    }


@pytest.mark.parametrize("form", ["handle", "history", "entries", "events", "path", "text"])
def test_every_form_of_a_history_is_replayed(ended, form, deployed, tmp_path):
    arguments = forms(ended, tmp_path)[form]
    assert_replays(*arguments)
    deployed()
    with pytest.raises(NonDeterminismError) as differs:
        assert_replays(*arguments)
    assert "flows.add" in differs.value.recorded
    assert "flows.nothing" in differs.value.requested
    assert "workflows.py:" in differs.value.where
    assert differs.value.event == 2


def test_open_runs_and_those_that_ended_from_outside_replay(durable_env, deployed):
    handle = durable_env.start(workflows.changing, 1)
    assert_replays(handle)
    durable_env.run_until_idle()
    assert_replays(handle)
    handle.terminate()
    assert_replays(handle)
    deployed()
    with pytest.raises(NonDeterminismError):
        assert_replays(handle)


def test_every_flow_of_a_kind_replays_from_its_entries(durable_env):
    for definition, args in (
        (workflows.everything, ("k",)),
        (workflows.fail_with_cause, ()),
        (workflows.catch, ("flows.fail_for_good", ["no"])),
        (workflows.approval, (60.0,)),
    ):
        handle = durable_env.start(definition, *args)
        durable_env.advance(durable_env.now() - durable_env.now())
        assert_replays(list(handle.history()), definition)


def test_other_code_can_be_given(ended):
    with pytest.raises(NonDeterminismError):
        assert_replays(ended, workflows.echo)


def test_a_replay_writes_nothing(ended, django_assert_max_num_queries):
    before = HistoryEvent.objects.count()
    with django_assert_max_num_queries(3) as queries:
        assert_replays(ended)
    assert all(query["sql"].startswith("SELECT") for query in queries.captured_queries)
    assert HistoryEvent.objects.count() == before


def test_what_cannot_be_replayed_says_why(ended, tmp_path):
    with pytest.raises(TypeError, match=r"assert_replays\(events, definition\)"):
        assert_replays(list(ended.history()))
    with pytest.raises(WorkflowNotFound):
        assert_replays(WorkflowHandle("nobody", NOBODY))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DurableError, match="holds no run"):
        assert_replays(tmp_path / "empty.jsonl")
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(DurableError, match=r"other\.jsonl:1 is no line"):
        assert_replays(tmp_path / "other.jsonl")
    HistoryEvent.objects.filter(run_id=ended.run_id, sequence=3).update(type="Unheard")
    with pytest.raises(UnreadableEvent, match="Unheard"):
        assert_replays(ended)


def test_a_golden_history_is_written_once_and_then_compared(ended, durable_env, tmp_path):
    path = tmp_path / "golden" / "changing.jsonl"
    assert_golden(ended, path)
    written = path.read_text()
    again = durable_env.start(workflows.changing, 5)
    again.signal("approved", "other")
    again.result()
    assert_golden(again, path)
    assert path.read_text() == written


def test_another_course_of_events_is_shown_as_a_difference(ended, durable_env, tmp_path, monkeypatch):
    path = tmp_path / "changing.jsonl"
    assert_golden(ended, path)
    other = durable_env.start(workflows.effects, "a", 1)
    other.result()
    with pytest.raises(
        AssertionError, match=r"(?s)-  ActivityScheduled flows\.add.*\+  ActivityScheduled flows\.record"
    ):
        assert_golden(other, path)
    monkeypatch.setenv("DURABLE_GOLDEN", "write")
    assert_golden(other, path)
    monkeypatch.delenv("DURABLE_GOLDEN")
    assert_golden(other, path)


def test_a_golden_history_is_replayed_too(ended, durable_env, tmp_path, deployed):
    path = tmp_path / "changing.jsonl"
    assert_golden(ended, path)
    deployed()
    with pytest.raises(NonDeterminismError):
        assert_golden(ended, path)


def test_a_golden_history_has_no_paths_of_the_machine(durable_env, tmp_path):
    handle = durable_env.start(workflows.fail_with_cause)
    durable_env.run_until_idle()
    assert_golden(handle, tmp_path / "failed.jsonl")
    text = (tmp_path / "failed.jsonl").read_text()
    assert "RunFailed" in text
    assert "traceback" not in text
    assert __file__.rpartition("/")[0] not in text
    assert durable.registry.workflow("flows.fail_with_cause").name in text
