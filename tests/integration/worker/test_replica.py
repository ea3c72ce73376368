"""A router that sends reads to a replica: nothing of ours is read there, because it lags behind what was written."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from django.test import Client
from django.urls import reverse

from django_durable import Schedule, WorkflowFailed, durable
from django_durable.models import WorkflowRun
from django_durable.store import backlog
from example_project import database
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.running import DEADLINE, wait_for

REPLICA = "replica"
PAGES = ("workflowrun", "schedule", "worker")


class ReadsFromReplica:
    """As the documentation of Django has it, for our tables alone: those of the tests and the admin are not there."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return REPLICA if model._meta.app_label == "durable" else None

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        return True


@pytest.fixture(autouse=True)
def _replica(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty database: whoever reads a table of ours there fails."""
    configured = connections.configure_settings({"default": database.from_url(database.sqlite_url(tmp_path / "r.db"))})
    monkeypatch.setitem(connections.settings, REPLICA, configured["default"])
    settings.DATABASE_ROUTERS = [ReadsFromReplica()]


def printed(*command: str) -> str:
    out = io.StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


def test_nothing_is_read_from_a_replica(worker):
    handle = durable.start_workflow(workflows.cart.using(workflow_id="cart"), 2)
    handle.signal("added", "lamp")
    assert durable.get_workflow("cart").status().workflow_id == "cart"
    assert handle.history()
    handle.pause()
    handle.resume()
    handle.cancel()
    family = durable.start_workflow(workflows.effects.using(subject=User.objects.create_user("ada")), "k", 4)
    assert family.result(timeout=DEADLINE) == ["k/0", "k/1", "k/2", "k/3"]
    failed = durable.start_workflow(workflows.call, "flows.no_such_activity", [])
    failed.terminate()
    with pytest.raises(WorkflowFailed):
        durable.start_workflow(workflows.fail, "on purpose").result(timeout=DEADLINE)
    again = family.reset(to_event=4)
    assert again.result(timeout=DEADLINE) == ["k/0", "k/1", "k/2", "k/3"]
    assert Entry.objects.filter(kind="atomic").exists()


def test_verbs_for_many_runs_and_schedules_ask_the_right_database(worker):
    handles = durable.start_workflows([workflows.never_ends.call() for _ in range(3)])
    mine = WorkflowRun.objects.filter(pk__in=[handle.run_id for handle in handles])
    assert durable.cancel_workflows(mine).done == 3
    ended = durable.terminate_workflows(mine)
    assert ended.done + ended.skipped == 3
    schedule = durable.create_schedule("nightly", Schedule(every=timedelta(days=1)), workflows.echo, "tick")
    schedule.trigger()
    wait_for(lambda: WorkflowRun.objects.using("default").filter(schedule="nightly").closed(), "the tick's run to end")
    schedule.pause()
    assert schedule.upcoming(2)
    schedule.delete()


def test_commands_and_the_admin_ask_the_right_database(worker):
    run = durable.start_workflow(workflows.echo, "shown")
    run.result(timeout=DEADLINE)
    for command in ("durable_queues", "durable_replay", "durable_export", "durable_pause"):
        printed(command)
    printed("durable_health", "--ready")
    assert [one.workers for one in backlog.read() if one.name == "default"] == [1]
    User.objects.create_superuser("grace", password="x")
    client = Client()
    client.force_login(User.objects.get(username="grace"))
    for page in PAGES:
        assert client.get(reverse(f"admin:durable_{page}_changelist")).status_code == 200
    assert client.get(reverse("admin:durable_workflowrun_change", args=[run.run_id])).status_code == 200
