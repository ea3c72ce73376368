"""``durable_worker --processes``: several workers under one process, which dies and is killed as they are."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from django_durable import durable
from django_durable.models import Worker
from tests.e2e.harness import waiting
from tests.e2e.harness.stage import Stage, staged
from tests.flows import workflows

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

PATIENCE = 90.0


def _living() -> set[int]:
    """Process ids of the workers that have registered and are not dead."""
    names = Worker.objects.filter(dead=False).values_list("name", flat=True)
    return {int(name.rpartition(":")[2]) for name in names}


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _two(stage: Stage, *, apart_from: int = 0) -> bool:
    stage.fleet.check()
    return len(_living() - {apart_from}) == 2


def test_a_worker_of_a_crew_that_is_killed_is_replaced_and_the_first_signal_ends_them_all(fresh_url: str) -> None:
    with staged(fresh_url, concurrency=2, settings={"LEASE_SECONDS": 2.0}) as stage:
        parent = stage.fleet.start("--processes", "2")
        waiting.until(partial(_two, stage), "two workers", seconds=PATIENCE)
        killed = min(_living())
        assert parent.pid not in _living()

        os.kill(killed, signal.SIGKILL)
        waiting.until(partial(_two, stage, apart_from=killed), "a new one in its place", seconds=PATIENCE)
        assert durable.start_workflow(workflows.echo, 42).result(timeout=PATIENCE) == 42
        pids = _living() - {killed}

        parent.terminate()
        assert parent.wait(PATIENCE) == 0
        assert f"Worker process {killed} was ended by signal 9" in parent.log.read_text()
        assert all(map(_has_ended, pids))
        assert not _living() & pids


@pytest.mark.sqlite
def test_workers_end_in_order_when_their_parent_is_killed(fresh_url: str) -> None:
    with staged(fresh_url, concurrency=2, settings={}) as stage:
        parent = stage.fleet.start("--processes", "2")
        waiting.until(partial(_two, stage), "two workers", seconds=PATIENCE)
        pids = _living()

        parent.kill()

        waiting.until(lambda: all(map(_has_ended, pids)), "them to end", seconds=PATIENCE)
        assert _living() == set()
