"""SIGSTOP of a worker, inside transactions too: taken over in time, and it writes nothing after SIGCONT.

Not on SQLite: there a process that stands still inside a transaction stops all writers.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django_durable.models import Dispatch
from tests.e2e.harness import registrations, sessions, trail, verdict, waiting
from tests.e2e.harness.fleet import WorkerProcess
from tests.e2e.harness.stage import Stage, staged

WORKERS = 2
STEPS, SECONDS = 6, 0.1
GRACE = 5.0  # seconds over the lease within which everything must have been taken over
CATCH_SECONDS = 5.0
LIMIT = 90.0


@dataclass(slots=True)
class Measured:
    """What the stops have shown."""

    taken_over: list[float] = field(default_factory=list)  # seconds from SIGSTOP until nothing was left in its name
    went_on: list[float] = field(default_factory=list)  # seconds until somebody worked on what it had had
    places: Counter[str] = field(default_factory=Counter)
    chains: int = 0
    late_effects: int = 0  # of ordinary activities whose thread stood still before its own write


def run(
    url: str, *, stops: int, lease: float = 5.0, open_runs: int = 60, judge: bool = False, seed: int = 1
) -> dict[str, Any]:
    """Stop a worker ``stops`` times under load. ``judge``: fail if a takeover takes longer than lease + 5 s."""
    chance, measured = random.Random(seed), Measured()
    with (
        staged(url, concurrency=16, settings={"LEASE_SECONDS": lease}) as stage,
        sessions.watching(url) as watcher,
    ):
        stage.start_workers(WORKERS)
        for number in range(stops):
            _top_up(stage, open_runs)
            victim = chance.choice(stage.fleet.running)
            worker, place = _stop(victim, watcher, ("engine", "activity", "random")[number % 3], chance)
            _see_it_taken_over(victim, worker, measured)
            _see_it_come_back(victim, worker, measured, pause=chance.uniform(0, 1))
            stage.fleet.check()
            measured.places[place] += 1
            waiting.say(
                f"stop {number + 1} of {stops}: {victim}, {place}, taken over after {measured.taken_over[-1]:.1f} s"
            )
        stage.work.wait(seconds=LIMIT, check=stage.fleet.check)
        counted = verdict.check(stage.work, stage.fleet)
    if judge:
        assert max(measured.taken_over) <= lease + GRACE, f"a takeover took {max(measured.taken_over):.1f} s"
    return {**counted, **_figures(measured, lease)}


def _top_up(stage: Stage, wanted: int) -> None:
    """Have so many runs open that every worker has its hands full."""
    missing = wanted - stage.work.unfinished()
    if missing > 0:
        stage.work.add(missing, steps=STEPS, seconds=SECONDS)


def _stop(victim: WorkerProcess, watcher: sessions.Watcher, place: str, chance: random.Random) -> tuple[int, str]:
    """Stop it at such a place; its id, and where it was really stopped."""
    time.sleep(chance.uniform(0.2, 1.5))
    worker = waiting.until(lambda: registrations.current(victim.pid), f"{victim} to have an id", seconds=LIMIT)
    if place == "engine" and watcher.stop_inside_engine(victim, seconds=CATCH_SECONDS):
        return worker, "in a transaction of its engine"
    if place == "activity":
        waiting.until(lambda: watcher.activities(victim), "an atomic activity", seconds=LIMIT, step=0.001)
    victim.stop()
    time.sleep(sessions.SETTLE_SECONDS)
    if watcher.engine(victim):
        return worker, "in a transaction of its engine"
    return worker, "in a transaction of an activity" if watcher.activities(victim) else "elsewhere"


def _see_it_taken_over(victim: WorkerProcess, worker: int, measured: Measured) -> None:
    """Nothing is left in the stopped worker's name, and others go on with what it had."""
    began = victim.stopped_at
    had = registrations.holding(worker)
    measured.chains += len(had.chains)
    waiting.until(lambda: _has_nothing(worker), f"worker {worker} to be taken over", seconds=LIMIT)
    measured.taken_over.append(time.monotonic() - began)
    if had.chains:
        waiting.until(lambda: _goes_on(had.chains), "its runs to go on", seconds=LIMIT)
        measured.went_on.append(time.monotonic() - began)


def _has_nothing(worker: int) -> bool:
    left = registrations.holding(worker)
    return registrations.is_dead(worker) and not left.chains and not left.tasks


def _goes_on(chains: dict[UUID, int]) -> bool:
    """Somebody has claimed one of these chains since, or it has ended."""
    now = dict(Dispatch.objects.filter(pk__in=chains).values_list("pk", "epoch"))
    return any(now.get(chain, epoch + 1) > epoch for chain, epoch in chains.items())


def _see_it_come_back(victim: WorkerProcess, worker: int, measured: Measured, *, pause: float) -> None:
    """After SIGCONT it writes nothing before it has registered anew."""
    time.sleep(pause)
    before = trail.ids(victim.name)
    victim.go_on()
    fresh = waiting.until(lambda: registrations.later(victim.pid, worker), f"{victim} to register anew", seconds=LIMIT)
    time.sleep(0.3)  # so that what it might have had on its way has arrived
    late = [step for step in trail.steps(victim.name, besides=before) if step.at <= fresh.started_at]
    effects = [step for step in late if step.relation == trail.LEDGER and step.kind == "plain"]
    assert late == effects, f"{victim} wrote after SIGCONT: {late[: verdict.SHOWN]}"
    measured.late_effects += len(effects)


def _figures(measured: Measured, lease: float) -> dict[str, Any]:
    return {
        "lease": lease,
        "taken over after (median / longest)": (
            f"{statistics.median(measured.taken_over):.1f} / {max(measured.taken_over):.1f} s"
        ),
        "went on after (longest)": f"{max(measured.went_on, default=0.0):.1f} s",
        "chains taken over": measured.chains,
        "ordinary effects of resumed threads": measured.late_effects,
        "stopped": "; ".join(f"{count} {place}" for place, count in sorted(measured.places.items())),
    }
