"""What waits in each queue, who works on it, and how fast it goes."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from django.core.management import call_command

from django_durable import durable
from django_durable.history.status import Status
from django_durable.models import ActivityTask, WorkflowRun
from django_durable.store import backlog, clock, leases, tasks
from tests.factories import ActivityTaskFactory, WorkflowRunFactory
from tests.integration.store import chains

pytestmark = pytest.mark.django_db


@pytest.fixture
def mail():
    """A queue in which one run is due, one is owned and two sleep, and of whose three tasks one waits for long."""
    now = clock.read()
    chains.owned(chains.worker(), queue="mail", priority=-1)
    chains.start(queue="mail", priority=3, wakeup_at=now - timedelta(seconds=20))
    chains.sleeping(queue="mail")
    chains.start(queue="mail", wakeup_at=now + timedelta(hours=1))
    ActivityTaskFactory.create(queue="mail", due_at=now - timedelta(seconds=90))
    ActivityTaskFactory.create(queue="mail", due_at=now + timedelta(hours=1))
    ActivityTaskFactory.create(queue="mail", worker=7)
    ActivityTaskFactory.create(queue="mail", worker=tasks.OUTSIDE)


def queue(name: str) -> backlog.QueueBacklog:
    [found] = [one for one in backlog.read() if one.name == name]
    return found


@pytest.mark.usefixtures("mail")
def test_what_is_due_is_counted_and_what_sleeps_is_not():
    found = queue("mail")
    assert (found.runs_due, found.activities_due, found.depth) == (1, 1, 2)
    assert found.oldest_seconds is not None
    assert 90 <= found.oldest_seconds < 90 + 60
    assert (found.runs_owned, found.activities_running) == (1, 1)


def test_a_queue_without_work_is_there_if_somebody_serves_it_or_the_settings_name_it(settings):
    settings.DURABLE = {"QUEUES": ["default", "slow"]}
    leases.register("one", queues=["default", "mail"], definitions=[], concurrency=1, release="tests")
    gone = leases.register("two", queues=["gone"], definitions=[], concurrency=1, release="tests")
    chains.expire(gone)
    assert {one.name: one.workers for one in backlog.read()} == {"default": 1, "mail": 1, "slow": 0}
    assert queue("slow") == backlog.QueueBacklog(name="slow")


def test_a_paused_queue_says_so():
    durable.pause_queue("mail", "the server is down")
    assert (queue("mail").paused, queue("default").paused) == (True, False)
    out = io.StringIO()
    call_command("durable_queues", stdout=out)
    assert "mail (paused)" in out.getvalue()


def test_counting_ends_at_its_limit(monkeypatch):
    monkeypatch.setattr(backlog, "MOST_WAITING", 2)
    monkeypatch.setattr(backlog, "LEVELS_AT_ONCE", 1)
    for priority in (1, 2):
        for _ in range(3):
            chains.start(priority=priority)
    assert queue("default").runs_due == 2 + 2


def test_rates_are_of_the_last_minute():
    now = clock.read()
    for ago in (5, 50, 70):
        WorkflowRunFactory.create(queue="mail", created_at=now - timedelta(seconds=ago))
    WorkflowRunFactory.create(
        queue="mail", status=Status.COMPLETED, created_at=now - timedelta(days=2), closed_at=now - timedelta(seconds=1)
    )
    assert (queue("mail").started_per_minute, queue("mail").finished_per_minute) == (2.0, 1.0)


def test_when_very_many_end_the_latest_of_them_tell_the_rate(monkeypatch):
    monkeypatch.setattr(backlog, "_RECENT", backlog._RECENT.replace(str(backlog.MOST_RECENT), "10"))
    monkeypatch.setattr(backlog, "MOST_RECENT", 10)
    now = clock.read()
    for ago in range(1, 31):
        WorkflowRunFactory.create(created_at=now - timedelta(seconds=ago), queue="mail")
    [rate] = [one.started_per_minute for one in backlog.read() if one.name == "mail"]
    assert rate == pytest.approx(60, rel=0.3)  # one a second: the last ten tell it, and half a minute has none


@pytest.mark.usefixtures("mail")
def test_the_command_prints_a_table_and_json():
    out = io.StringIO()
    call_command("durable_queues", stdout=out)
    head, *lines = out.getvalue().splitlines()
    assert head.split("  ")[0] == "queue"
    assert [line.split()[:3] for line in lines] == [["default", "0", "0"], ["mail", "1", "1"]]
    out = io.StringIO()
    call_command("durable_queues", "--json", stdout=out)
    printed = {one["name"]: one for one in json.loads(out.getvalue())["queues"]}
    assert printed["mail"]["depth"] == 2
    assert printed["mail"]["runs_owned"] == 1
    assert printed["default"]["oldest_seconds"] is None
    assert ActivityTask.objects.count() == 4
    assert WorkflowRun.objects.filter(queue="mail").count() == 4
