"""SIGTERM: the first drains and hands over, a second one ends the worker at once."""

from __future__ import annotations

import statistics
import time
from typing import Any

from tests.e2e.harness import registrations, verdict, waiting
from tests.e2e.harness.stage import Stage, staged

FORCED = 130  # exit code
LEASE = 15.0


def rolling(
    url: str, *, workflows: int, workers: int = 3, steps: int = 6, seconds: float = 0.2, limit: float = 100.0
) -> dict[str, Any]:
    """Replace one worker after the other, as a deploy does: nothing is executed again, nobody is declared dead."""
    handed_over, ended = [], []
    with staged(url, concurrency=8, settings={"LEASE_SECONDS": 10 * limit}) as stage:
        stage.start_workers(2)
        stage.work.add(workflows, steps=steps, seconds=seconds)
        for number in range(workers):
            _wait_for_share(stage, (number + 1) / (workers + 2), limit)
            leaving = stage.fleet.running[0]
            worker = registrations.current(leaving.pid)
            assert worker is not None
            had = registrations.holding(worker)
            began = time.monotonic()
            leaving.terminate()
            waiting.until(lambda: not registrations.holding(worker).chains, "the hand-over", seconds=limit)  # noqa: B023
            handed_over.append(time.monotonic() - began)
            leaving.wait(limit)
            ended.append(time.monotonic() - began)
            waiting.say(f"{leaving} had {len(had.chains)} runs, handed over after {handed_over[-1]:.2f} s")
            stage.start_workers(1)
        stage.work.wait(seconds=limit, check=stage.fleet.check)
        counted = verdict.check(stage.work, stage.fleet, once=True)
    return {
        **counted,
        "workers replaced": workers,
        "handed over after (median)": f"{statistics.median(handed_over):.2f} s",
        "ended after (median)": f"{statistics.median(ended):.2f} s",
    }


def forced(url: str, *, workflows: int, steps: int = 4, seconds: float = 1.0, limit: float = 100.0) -> dict[str, Any]:
    """The second SIGTERM does not wait for running activities; what they did not finish is taken over."""
    with staged(url, concurrency=8, settings={"LEASE_SECONDS": LEASE}) as stage:
        leaving, _ = stage.start_workers(2)
        stage.work.add(workflows, steps=steps, seconds=seconds)
        _wait_for_share(stage, 0.2, limit)
        worker = registrations.current(leaving.pid)
        assert worker is not None
        leaving.terminate(expected=FORCED)
        time.sleep(0.2)
        began = time.monotonic()
        leaving.terminate(expected=FORCED)
        leaving.wait(limit)
        ended = time.monotonic() - began
        waiting.until(lambda: not any(registrations.holding(worker)), "the takeover", seconds=limit)
        taken_over = time.monotonic() - began
        stage.work.wait(seconds=limit, check=stage.fleet.check)
        counted = verdict.check(stage.work, stage.fleet)
    return {**counted, "ended after": f"{ended:.2f} s", "taken over after": f"{taken_over:.2f} s"}


def _wait_for_share(stage: Stage, share: float, limit: float) -> None:
    work = stage.work
    waiting.until(
        lambda: work.effects() >= work.expected_effects() * share,
        f"{share:.0%} of the effects",
        seconds=limit,
        tell=work.describe,
    )
