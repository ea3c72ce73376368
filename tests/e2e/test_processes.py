"""Processes of activities do not outlive the worker that has started them, however it ends."""

from __future__ import annotations

import os

import pytest

from django_durable import durable
from tests.e2e.harness import waiting
from tests.e2e.harness.stage import staged
from tests.flows import computing
from tests.flows.models import Entry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

PATIENCE = 60.0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _spinning(attempt: int) -> Entry | None:
    return Entry.objects.filter(kind="spins", attempt=attempt).first()


def test_a_killed_worker_takes_its_processes_along_and_their_activities_begin_again(fresh_url: str) -> None:
    with staged(fresh_url, concurrency=2, settings={"LEASE_SECONDS": 2.0}) as stage:
        [first] = stage.start_workers(1)
        handle = durable.start_workflow(computing.computes, "flows.spin", ["k"])
        waiting.until(lambda: _spinning(1) is not None, "the activity to begin", seconds=PATIENCE)
        orphan = int(Entry.objects.get(kind="spins").worker)
        first.kill()
        waiting.until(lambda: not _is_alive(orphan), "its process to end", seconds=PATIENCE)
        stage.start_workers(1)
        waiting.until(lambda: _spinning(2) is not None, "the activity to begin again", seconds=PATIENCE)
        handle.signal("enough")
        assert handle.result(timeout=PATIENCE) == "given up"
