"""SIGKILL of workers with parents and children in hand: each child is started once, each parent hears of it."""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from typing import Any

from django_durable import durable
from django_durable.client import WorkflowHandle
from django_durable.models import WorkflowRun
from tests.e2e.harness import trail, verdict, waiting
from tests.e2e.harness.stage import staged
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_all_invariants, assert_family

WORKERS = 2
LEASE = 3.0
RUNS_OF_A_CLAN = 2  # of its own, each with
CHILDREN = 3  # of which one has
GRANDCHILDREN = 3


def run(
    url: str,
    *,
    clans: int,
    kills: int,
    steps: int = 4,
    seconds: float = 0.1,
    every: float = 2.0,
    limit: float = 300.0,
    seed: int = 1,
) -> dict[str, Any]:
    """``kills`` kills, ``every`` so many seconds, among this many parents."""
    chance = random.Random(seed)
    with staged(url, concurrency=8, settings={"LEASE_SECONDS": LEASE}) as stage:
        fleet = stage.fleet
        stage.start_workers(WORKERS)
        handles = durable.start_workflows(
            [workflows.clan.call(uuid.uuid4().hex[:12], steps, seconds) for _ in range(clans)]
        )
        for number in range(kills):
            time.sleep(every)
            assert WorkflowRun.objects.open().exists(), f"everything was done after {number} kills"
            victim = chance.choice(fleet.running)
            victim.kill()
            fleet.start()
            fleet.check()
            waiting.say(f"kill {number + 1} of {kills}: {victim}; {_describe()}")
        waiting.until(
            lambda: not WorkflowRun.objects.open().exists(), "the runs to end", seconds=limit, tell=_describe, step=0.2
        )
        fleet.check()
        return {**_check(handles, steps), "kills": kills}


def _describe() -> str:
    statuses = Counter(WorkflowRun.objects.values_list("status", flat=True))
    return ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))


def _check(handles: list[WorkflowHandle[Any]], steps: int) -> dict[str, int]:
    assert [handle.result() for handle in handles] == [[steps, steps, 6]] * len(handles)
    everyone: list[WorkflowHandle[Any]] = [WorkflowHandle(run.workflow_id, run.pk) for run in WorkflowRun.objects.all()]
    assert_all_invariants(everyone)
    for handle in everyone:
        assert_family(handle)
    verdict.nothing_left()
    expected = len(handles) * RUNS_OF_A_CLAN * (1 + CHILDREN + GRANDCHILDREN)
    assert len(everyone) == expected, "a child too many or too few"
    twice = [key for key, count in Counter(Entry.objects.filter(kind="atomic").values_list("key")).items() if count > 1]
    assert not twice, f"atomic effects happened again: {twice[:5]}"
    if trail.is_kept():
        assert trail.rewritten() == 0, "history was rewritten"
    return {"runs": len(everyone)}
