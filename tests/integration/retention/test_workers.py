"""Workers prune beside their work, whatever dies, and whoever holds a row."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from django.db import connection, transaction

from django_durable import durable
from django_durable.client import pruning
from django_durable.history import transcript
from django_durable.models import HistoryEvent, PrunedRun, Worker, WorkflowRun
from django_durable.store import clock, leases, runs
from django_durable.worker import maintenance
from django_durable.worker.retention import Retention
from tests import factories
from tests.flows import workflows
from tests.flows.management.commands import dying_prune
from tests.integration.retention.conftest import DAY, assert_no_orphans, left
from tests.integration.worker.deaths import past_worker
from tests.integration.worker.processes import BASE_DIR, url_of_tests
from tests.integration.worker.running import COMMITTING, DEADLINE, in_thread, wait_for

pytestmark = COMMITTING


def end(count: int) -> list[UUID]:
    """Families of one parent and two children that have ended some days ago; returns the ids of their runs."""
    return [run.pk for _ in range(count) for run in _family()]


def _family() -> list[WorkflowRun]:
    ago = clock.read() - 5 * DAY
    closed = {"status": "completed", "created_at": ago, "closed_at": ago}
    parent = factories.WorkflowRunFactory.create(name="flows.parent_of_sum", **closed)
    child = {"name": "flows.adds", "parent_chain_id": parent.pk, "parent_run_id": parent.pk, **closed}
    family = [parent, *(factories.WorkflowRunFactory.create(**child, parent_key=key) for key in "ab")]
    for run in family:
        events = factories.HistoryEventFactory.build_batch(6, run=run)
        for sequence, event in enumerate(events, start=1):
            event.sequence = sequence
        HistoryEvent.objects.bulk_create(events)
    return family


def test_a_worker_deletes_what_may_go_and_goes_on_working(make_worker, configure, monkeypatch):
    end(3)
    monkeypatch.setattr(maintenance, "SLOW_SECONDS", 0.2)
    configure(RETENTION={"completed": DAY})
    make_worker()
    make_worker()
    handle = durable.start_workflow(workflows.chain, 3)
    assert handle.result(timeout=DEADLINE) == 3
    wait_for(lambda: WorkflowRun.objects.count() == 1 and not PrunedRun.objects.exists(), "old runs to go")
    assert set(HistoryEvent.objects.values_list("run_id", flat=True)) == {handle.run_id}
    assert_no_orphans()


def test_one_of_the_live_workers_that_have_a_workflow_takes_care_of_it(db):
    dead, stopping, other, first, second = (past_worker(dead=False, expired=False) for _ in range(5))
    Worker.objects.update(definitions="a\nb\t2")
    Worker.objects.filter(pk=dead).update(dead=True)
    Worker.objects.filter(pk=stopping).update(stopping=True)
    Worker.objects.filter(pk=other).update(definitions="c")
    assert leases.led_by(first, ["a", "b", "c", "nobody"]) == ["a", "b"]
    assert leases.led_by(other, ["a", "b", "c", "nobody"]) == ["c", "nobody"]
    for worker in (dead, stopping, second):
        assert leases.led_by(worker, ["a", "b", "c", "nobody"]) == []


def test_it_stops_when_something_else_is_to_be_done_and_goes_on_there(configure, monkeypatch):
    end(3)
    configure(RETENTION={"completed": DAY})
    monkeypatch.setattr(pruning, "BATCH", 1)
    leader = past_worker(dead=False, expired=False)
    retention = Retention()
    counts = []
    while retention.round(leader, enough=lambda: True):
        counts.append(WorkflowRun.objects.count())
    assert counts == sorted(counts, reverse=True)
    assert {9, 6, 3} <= set(counts)
    retention.round(leader)
    assert left() == {}


@pytest.mark.slow
@pytest.mark.parametrize("point", dying_prune.POINTS)
def test_whoever_dies_leaves_what_the_next_one_goes_on_with(point, configure, tmp_path):
    before = set(end(2))
    configure(RETENTION={"completed": DAY})
    command = ["dying_prune", "--at", point, "--export", str(tmp_path / "kept"), "--before", "1d"]
    surroundings = {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DURABLE_TEST_DATABASE_URL": url_of_tests(),
        "DURABLE_TEST_SETTINGS": "{}",
    }
    ended = subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=BASE_DIR,
        env={**os.environ, **surroundings},
        capture_output=True,
        timeout=DEADLINE,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert_no_orphans()
    assert WorkflowRun.objects.count() == (6 if point in ("exported", "burying") else 0)
    assert exported(tmp_path / "kept") == before  # more is in files than is gone, never less
    Retention().round(past_worker(dead=False, expired=False))
    assert left() == {}


def exported(directory: Path) -> set[UUID]:
    """The runs that are in files."""
    found = [line for file in directory.glob("*.jsonl") for line in file.read_text().splitlines()]
    return {one.run.run_id for one in transcript.read(found, name="kept")}


@pytest.mark.postgres
def test_who_lets_a_run_go_on_is_neither_waited_for_nor_overtaken(make_worker, configure):
    worker = make_worker()
    handle = durable.start_workflow(workflows.fail, "x")
    wait_for(lambda: handle.status().is_closed, "it to fail")
    worker.stop()
    assert worker.join(DEADLINE)
    WorkflowRun.objects.update(closed_at=clock.read() - 5 * DAY)
    configure(RETENTION={"failed": DAY})
    with transaction.atomic():
        assert runs.hold(handle.run_id)
        in_thread(lambda: Retention().round(past_worker(dead=False, expired=False))).join(DEADLINE)
        assert WorkflowRun.objects.filter(pk=handle.run_id).exists()
    assert connection.vendor == "postgresql"
    Retention().round(Worker.objects.latest("pk").pk)
    assert left() == {}
