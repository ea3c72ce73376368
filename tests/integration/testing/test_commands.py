"""``durable_export`` and ``durable_replay``."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_durable import DurableError
from django_durable.history import transcript
from django_durable.models import HistoryEvent, WorkflowRun
from django_durable.store import transcripts
from django_durable.testing import assert_replays
from django_durable.testing.plugin import durable_env
from tests.flows import workflows

__all__ = ["durable_env"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def runs(durable_env):
    """Two that are open, one that has ended, one that was terminated and one that has not begun."""
    handles = {
        name: durable_env.start(workflows.changing.using(workflow_id=name), 1)
        for name in ("open", "other", "ended", "terminated")
    }
    handles["chain"] = durable_env.start(workflows.chain.using(workflow_id="chain"), 3)
    durable_env.run_until_idle()
    handles["ended"].signal("approved", "x")
    handles["ended"].result()
    handles["terminated"].terminate()
    handles["new"] = durable_env.start(workflows.changing.using(workflow_id="new"), 1)
    return handles


@pytest.fixture
def deploy(monkeypatch):
    return lambda: monkeypatch.setitem(workflows._versions, "changed", "nothing")


def export(*arguments: str) -> str:
    out = StringIO()
    call_command("durable_export", *arguments, stdout=out)
    return out.getvalue()


def replay(*arguments: str) -> tuple[str, int]:
    out = StringIO()
    try:
        call_command("durable_replay", *arguments, stdout=out)
    except SystemExit as ended:
        return out.getvalue(), int(str(ended.code))
    return out.getvalue(), 0


def names(exported: str) -> list[str]:
    return [one.run.workflow_id for one in transcript.read(exported.splitlines(), name="export")]


def test_an_export_holds_runs_and_events_as_they_are_stored(runs):
    lines = export("--workflow-id", "ended").splitlines()
    stored = HistoryEvent.objects.filter(run_id=runs["ended"].run_id).order_by("sequence")
    assert json.loads(lines[0])["workflow_id"] == "ended"
    assert json.loads(lines[0])["status"] == "completed"
    assert [json.loads(line)["data"] for line in lines[1:]] == [event.data for event in stored]


def test_exports_are_chosen_by_name_status_id_and_age(runs):
    assert names(export()) == ["open", "other", "ended", "terminated", "chain", "new"]
    assert names(export("--name", "flows.chain")) == ["chain"]
    assert names(export("--status", "terminated", "--status", "completed")) == ["ended", "terminated", "chain"]
    assert names(export("--workflow-id", "open", "--workflow-id", "new")) == ["open", "new"]
    WorkflowRun.objects.filter(workflow_id="open").update(created_at=timezone.now() - timedelta(days=8))
    assert "open" not in names(export("--since", "7d"))
    assert "open" in names(export("--since", "9d"))
    assert names(export("--since", "2100-01-01")) == []
    with pytest.raises(CommandError, match="neither a date"):
        export("--since", "soon")
    with pytest.raises(CommandError, match="none of"):
        export("--status", "finished")


def test_long_histories_and_many_runs_are_read_in_portions(runs, monkeypatch):
    whole = export()
    monkeypatch.setattr(transcripts, "RUNS", 2)
    monkeypatch.setattr(transcripts, "EVENTS", 3)
    assert export() == whole


def test_code_that_repeats_what_it_did_passes(runs):
    assert replay() == ("Runs replayed: 3. Cannot go on with this code: 0.\n", 0)
    assert replay("--closed") == ("Runs replayed: 6. Cannot go on with this code: 0.\n", 0)


def test_code_that_does_not_is_stopped_before_the_deploy(runs, deploy):
    deploy()
    said, code = replay()
    assert code == 1
    assert f"flows.changing open (run {runs['open'].run_id}): event 2\n" in said
    assert "    recorded:  activity flows.add with " in said
    assert "    requested: activity flows.nothing with " in said
    assert "tests/flows/workflows.py:" in said
    assert said.endswith("Runs replayed: 3. Cannot go on with this code: 2.\n")
    assert replay("--closed")[0].endswith("Runs replayed: 6. Cannot go on with this code: 4.\n")


def test_it_can_be_narrowed_down(runs, deploy):
    deploy()
    assert replay("--name", "flows.chain", "--closed")[1] == 0
    assert replay("--sample", "1")[0].startswith(
        "Runs replayed: 1. Cannot go on with this code: 0"
    )  # the latest has not begun
    assert "Runs replayed: 2. Cannot go on with this code: 1" in replay("--sample", "2")[0]
    assert replay("--since", "2100-01-01")[0].startswith("Runs replayed: 0.")


def test_exported_histories_are_replayed_without_their_database(runs, deploy, tmp_path):
    (tmp_path / "runs.jsonl").write_text(export())
    WorkflowRun.objects.all().delete()
    HistoryEvent.objects.all().delete()
    path = str(tmp_path / "runs.jsonl")
    assert replay(path) == ("Runs replayed: 6. Cannot go on with this code: 0.\n", 0)
    deploy()
    assert replay(path)[1] == 1
    assert replay(path, "--name", "flows.chain") == ("Runs replayed: 1. Cannot go on with this code: 0.\n", 0)
    assert replay(path, "--since", "2100-01-01")[0].startswith("Runs replayed: 0.")


def test_files_and_the_database_together(runs, tmp_path):
    (tmp_path / "runs.jsonl").write_text(export("--workflow-id", "ended"))
    assert replay(str(tmp_path / "runs.jsonl"))[0].startswith("Runs replayed: 1.")
    assert replay(str(tmp_path / "runs.jsonl"), "--open")[0].startswith("Runs replayed: 4.")


def test_what_cannot_be_read_is_told_and_the_others_are_replayed_all_the_same(runs):
    HistoryEvent.objects.filter(run_id=runs["open"].run_id, sequence=2).update(type="FromTheFuture")
    HistoryEvent.objects.filter(run_id=runs["other"].run_id, sequence=2).update(data="{")
    said, code = replay()
    assert code == 1
    assert "written by a newer release" in said
    assert "cannot be read" in said
    assert said.endswith("Runs replayed: 3. Cannot go on with this code: 2.\n")


def test_runs_without_code_are_told(runs):
    WorkflowRun.objects.filter(workflow_id="open").update(name="shop.gone")
    WorkflowRun.objects.filter(workflow_id="other").update(version="2")
    said, code = replay()
    assert code == 1
    assert "'shop.gone'" in said
    assert "'flows.changing' has no version '2'" in said


def test_a_file_that_is_none_is_an_error(tmp_path):
    with pytest.raises(CommandError, match=r"missing\.jsonl cannot be read"):
        call_command("durable_replay", str(tmp_path / "missing.jsonl"))
    (tmp_path / "other.jsonl").write_text(f"{uuid4()}\n")
    with pytest.raises(CommandError, match=r"other\.jsonl:1 is no line"):
        call_command("durable_replay", str(tmp_path / "other.jsonl"))


@pytest.fixture
def spinning(durable_env):
    """A run whose code never awaits any more behind its first step."""
    handle = durable_env.start(workflows.may_spin, "k")
    durable_env.run_until_idle()
    workflows.endless.add("k")
    yield handle
    workflows.endless.clear()


@pytest.mark.parametrize("options", [(), ("--step-seconds", "0.2")])
def test_code_that_never_awaits_is_stopped_and_its_run_and_line_are_named(spinning, settings, options):
    limit = "0.2" if options else "0.3"
    settings.DURABLE = {**settings.DURABLE, "STUCK_SECONDS": 0.3}
    said, code = replay(*options)
    line = workflows.may_spin.function.__code__.co_firstlineno + 3
    assert code == 1
    assert f"flows.may_spin {spinning.workflow_id} (run {spinning.run_id}): The code of run {spinning.run_id}" in said
    assert re.search(rf"ran for more than {limit} s at \S+workflows\.py:({line}|{line + 1}) without awaiting", said)
    assert "Cannot go on with this code: 1." in said


def test_code_that_never_awaits_is_an_error_of_assert_replays_too(spinning, settings):
    settings.DURABLE = {**settings.DURABLE, "STUCK_SECONDS": 0.2}
    with pytest.raises(DurableError, match=f"The code of run {spinning.run_id} of workflow flows.may_spin"):
        assert_replays(spinning)


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(CommandError, match="0 is not more than 0"):
        call_command("durable_replay", "--step-seconds", "0")


def test_nothing_is_written(runs, django_assert_max_num_queries):
    with django_assert_max_num_queries(30) as queries:
        replay("--closed")
    assert all(query["sql"].startswith("SELECT") for query in queries.captured_queries)
