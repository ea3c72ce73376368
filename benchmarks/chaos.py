"""Workers killed, stopped, cut off, told to end; PostgreSQL restarted: is everything there afterwards, once?

``python -m benchmarks.chaos [kill kill-sqlite families stop restart replies drain force poison hang]``

``DURABLE_TEST_POSTGRES_URL`` says on which server (default: the standard local port); the restarts happen to a
server of their own. Every scenario checks all that ``tests/e2e/harness/verdict.py`` lists.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import configured
from benchmarks.environment import DEFAULT_URL
from tests.e2e.harness import databases, waiting
from tests.e2e.harness.scenarios import drain, families, kill, poison, replies, restart, stop

__all__ = ["configured"]

Figures = dict[str, Any]
SERVER = os.environ.get("DURABLE_TEST_POSTGRES_URL", DEFAULT_URL)


def on_postgres(scenario: Callable[..., Figures]) -> Callable[..., Figures]:
    def run(**sizes: Any) -> Figures:
        with databases.fresh_postgres(SERVER) as url:
            return scenario(url, **sizes)

    return run


def on_sqlite(scenario: Callable[..., Figures]) -> Callable[..., Figures]:
    def run(**sizes: Any) -> Figures:
        with databases.fresh_sqlite() as url:
            return scenario(url, **sizes)

    return run


SCENARIOS: dict[str, tuple[Callable[..., Figures], Figures]] = {
    "kill": (on_postgres(kill.run), {"workflows": 300, "kills": 10, "seconds": 0.25}),
    "kill-sqlite": (on_sqlite(kill.run), {"workflows": 100, "kills": 10, "seconds": 0.05}),
    "families": (on_postgres(families.run), {"clans": 100, "kills": 10, "seconds": 0.25}),
    "stop": (on_postgres(stop.run), {"stops": 20, "lease": 5.0, "judge": True}),
    "restart": (restart.run, {"workflows": 200}),
    "replies": (on_postgres(replies.run), {"workflows": 200}),
    "drain": (on_postgres(drain.rolling), {"workflows": 100, "workers": 5}),
    "force": (on_postgres(drain.forced), {"workflows": 40}),
    "poison": (on_postgres(poison.crashing), {"workflows_": 60, "watch": 45.0}),
    "hang": (on_postgres(poison.hanging), {"workflows_": 60}),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help=f"which (default: all of {', '.join(SCENARIOS)})")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # ends "with" blocks: no worker is left
    results = [one(name) for name in options.scenarios or SCENARIOS]
    print("\n" + "\n".join(results))
    return int(any("FAILED" in result for result in results))


def one(name: str) -> str:
    """Run one scenario in full size; its line of the table."""
    scenario, sizes = SCENARIOS[name]
    waiting.say(f"--- {name}: {sizes}, load {os.getloadavg()[0]:.1f}")
    began = time.monotonic()
    try:
        figures = scenario(**sizes)
    except AssertionError as error:
        waiting.say(f"{name} FAILED: {error}")
        return f"{name:<14}FAILED after {time.monotonic() - began:.0f} s: {str(error).splitlines()[0]}"
    text = ", ".join(f"{label} {value}" for label, value in figures.items())
    waiting.say(f"{name}: {text}, load {os.getloadavg()[0]:.1f}")
    return f"{name:<14}passed in {time.monotonic() - began:.0f} s: {text}"


if __name__ == "__main__":
    sys.exit(main())
