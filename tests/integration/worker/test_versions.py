"""Several versions side by side, and what open runs still need of the code."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import call_command

from django_durable import durable
from django_durable.client import versions
from django_durable.models import Dispatch, WorkflowRun
from tests.flows import workflows
from tests.integration.worker.invariants import assert_all_invariants
from tests.integration.worker.running import DEADLINE, wait_for

pytestmark = pytest.mark.parametrize("cache", [0, 1_000], ids=["no cache", "cache"])


@pytest.fixture(autouse=True)
def _cache(configure, cache):
    configure(INSTANCE_CACHE_SIZE=cache)


def asleep(count: int = 1) -> None:
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch__gt=0).count() == count, "the runs to wait")


def printed(*args: str) -> str:
    out = io.StringIO()
    call_command("durable_versions", *args, stdout=out)
    return out.getvalue()


def test_runs_stay_with_their_version_and_starts_by_name_take_the_default(worker):
    handles = [
        durable.start_workflow(workflows.first_edition),
        durable.start_workflow(workflows.second_edition),
        durable.start_workflow(durable.workflow_named("flows.edition")),
        durable.start_workflow(durable.workflow_named("flows.edition", "2")),
    ]
    asleep(4)
    for handle in handles:
        handle.signal(workflows.approved("ok"))
    assert [handle.result(timeout=DEADLINE) for handle in handles] == ["first ok", "second ok", "first ok", "second ok"]
    assert durable.get_workflow(handles[1].workflow_id).result(timeout=DEADLINE) == "second ok"
    assert_all_invariants(handles)


def test_open_runs_are_counted_by_version_and_by_the_code_that_started_them(worker):
    for workflow in (workflows.first_edition, workflows.second_edition, workflows.second_edition):
        durable.start_workflow(workflow)
    gone = durable.start_workflow(workflows.second_edition)
    asleep(4)
    WorkflowRun.objects.filter(pk=gone.run_id).update(version="0", fingerprint="f" * 16)
    older = WorkflowRun.objects.filter(version="1")
    older.update(fingerprint="e" * 16)
    assert [(one.version, one.runs, one.code) for one in versions.versions_in_use().versions] == [
        ("0", 1, "missing"),
        ("1", 1, "changed"),
        ("2", 2, "same"),
    ]
    text = printed()
    assert [line.split()[:4] for line in text.splitlines()[1:4]] == [
        ["flows.edition", "0", "f" * 16, "1"],
        ["flows.edition", "1", "e" * 16, "1"],
        ["flows.edition", "2", workflows.second_edition.fingerprint, "2"],
    ]
    assert "not here" in text
    assert "changed since" in text


def patch() -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(printed("--json"))["patches"]
    (one,) = [one for one in found if one["name"] == "flows.amended"]
    return one


def test_the_old_branch_is_needed_until_the_last_run_that_took_it_has_ended(worker, monkeypatch):
    with monkeypatch.context() as before:
        before.setitem(workflows._versions, "amended", "before")
        old = durable.start_workflow(workflows.amended)
        asleep(1)
    new = durable.start_workflow(workflows.amended)
    asleep(2)
    assert patch() | {"version": None} == {
        "name": "flows.amended",
        "version": None,
        "id": "two",
        "marked": 1,
        "unmarked": 1,
        "in_code": True,
        "old_branch_needed": True,
    }
    assert "needed" in printed()
    old.signal(workflows.approved("ok"))
    assert old.result(timeout=DEADLINE) == ["one", "ok"]
    assert (patch()["unmarked"], patch()["old_branch_needed"]) == (0, False)
    new.signal(workflows.approved("ok"))
    assert new.result(timeout=DEADLINE) == ["one", "two", "ok"]
    assert_all_invariants([old, new])


def test_a_run_that_has_not_begun_needs_no_old_branch(transactional_db):
    durable.start_workflow(workflows.amended)
    assert not patch()["old_branch_needed"]


def test_nothing_open_is_said_so(transactional_db):
    assert printed().startswith("No run is open.")
