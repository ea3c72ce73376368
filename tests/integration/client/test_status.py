"""Status and history, before, while and after a run."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from django_durable import WorkflowFailed, durable
from tests.flows import workflows
from tests.integration.worker.running import DEADLINE, wait_for

SECRETS = {"input", "error_traceback", "error_cause", "blocked"}


def test_a_run_that_no_worker_has_taken_is_pending(transactional_db):
    handle = durable.start_workflow(workflows.echo.using(workflow_id="s"), 1)
    status = durable.get_workflow_status("s")
    assert (status.workflow_id, status.run_id) == ("s", handle.run_id)
    assert (status.name, status.queue) == ("flows.echo", "default")
    assert status.status == "pending"
    assert not status.is_closed
    assert status.started_at is None
    assert status.closed_at is None
    assert status.wakeup_at is not None


def test_a_sleeping_run_says_since_when_it_runs_and_when_it_wakes_up(worker):
    handle = durable.start_workflow(workflows.nap, 3600)
    status = wait_for(lambda: (now := handle.status()).started_at and now.wakeup_at and now, "the run to sleep")
    assert status.status == "running"
    assert status.created_at <= status.started_at <= datetime.now(UTC)
    assert timedelta(minutes=50) < status.wakeup_at - datetime.now(UTC) <= timedelta(hours=1)


def test_a_run_that_waits_for_a_message_has_no_time_to_wake_up(worker):
    handle = durable.start_workflow(workflows.never_ends)
    wait_for(lambda: handle.status().started_at, "the run to begin")
    wait_for(lambda: handle.status().wakeup_at is None, "the run to be given back")
    assert handle.status().status == "running"


def test_a_completed_run_has_its_result_and_times(worker):
    handle = durable.start_workflow(workflows.echo, {"a": 1})
    handle.result(timeout=DEADLINE)
    status = handle.status()
    assert status.status == "completed"
    assert status.is_closed
    assert status.result == {"a": 1}
    assert status.wakeup_at is None
    assert status.started_at is not None
    assert status.closed_at is not None
    assert status.created_at <= status.started_at <= status.closed_at
    assert (status.error_type, status.error_message, status.blocked) == (None, None, None)


def test_a_failed_run_tells_customers_the_error_and_staff_everything(worker):
    handle = durable.start_workflow(workflows.fail_with_cause)
    with pytest.raises(WorkflowFailed):
        handle.result(timeout=DEADLINE)
    public, internal = handle.status().as_dict(), handle.status().as_dict(internal=True)
    assert (public["status"], public["error_type"], public["error_message"]) == ("failed", "ValueError", "outer")
    assert not SECRETS & public.keys()
    assert "inner" not in json.dumps(public)
    assert set(internal) - set(public) == SECRETS
    assert "fail_with_cause" in internal["error_traceback"]
    assert internal["error_cause"]["type"] == "KeyError"
    assert json.loads(json.dumps(internal)) == internal


def test_the_input_of_a_run_is_for_staff_only(transactional_db):
    status = durable.start_workflow(workflows.echo, "my secret").status()
    assert "my secret" not in json.dumps(status.as_dict())
    assert "my secret" in json.dumps(status.as_dict(internal=True))


def test_the_history_tells_what_happened_in_order(worker):
    handle = durable.start_workflow(workflows.chain, 1)
    handle.result(timeout=DEADLINE)
    entries = handle.history()
    assert [(entry.sequence, entry.type) for entry in entries] == [
        (1, "RunStarted"),
        (2, "ActivityScheduled"),
        (3, "ActivityCompleted"),
        (4, "RunCompleted"),
    ]
    started, scheduled, completed, ended = entries
    assert started.data["input"] == handle.status().input
    assert scheduled.data["name"] == "flows.add"
    assert completed.data["activity"] == 2
    assert completed.data["result"] == 1
    assert ended.data["result"] == 1
    assert started.time <= scheduled.time <= completed.time <= ended.time
    assert all(entry.time.utcoffset() is not None for entry in entries)
