"""Workers killed, stopped, cut off, told to end; the server restarted: is everything there afterwards, once?

``python -m benchmarks.chaos [--mariadb] [kill kill-sqlite families stop restart replies drain force poison hang]``

``DURABLE_TEST_POSTGRES_URL``, ``DURABLE_TEST_MARIADB_URL`` say on which server (default: the standard local port); the
restarts happen to a server of their own. Every scenario checks all that ``tests/e2e/harness/verdict.py`` lists.
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
from benchmarks.environment import DEFAULT_MARIADB_URL, DEFAULT_URL
from tests.e2e.harness import databases, waiting
from tests.e2e.harness.scenarios import drain, families, kill, poison, replies, restart, stop

__all__ = ["configured"]

Figures = dict[str, Any]
POSTGRES = os.environ.get("DURABLE_TEST_POSTGRES_URL", DEFAULT_URL)
MARIADB = os.environ.get("DURABLE_TEST_MARIADB_URL", DEFAULT_MARIADB_URL)
server = POSTGRES


def on_server(scenario: Callable[..., Figures]) -> Callable[..., Figures]:
    def run(**sizes: Any) -> Figures:
        with databases.fresh(server) as url:
            return scenario(url, **sizes)

    return run


def on_sqlite(scenario: Callable[..., Figures]) -> Callable[..., Figures]:
    def run(**sizes: Any) -> Figures:
        with databases.fresh_sqlite() as url:
            return scenario(url, **sizes)

    return run


SCENARIOS: dict[str, tuple[Callable[..., Figures], Figures]] = {
    "kill": (on_server(kill.run), {"workflows": 300, "kills": 10, "seconds": 0.25}),
    "kill-sqlite": (on_sqlite(kill.run), {"workflows": 100, "kills": 10, "seconds": 0.05}),
    "families": (on_server(families.run), {"clans": 100, "kills": 10, "seconds": 0.25}),
    "stop": (on_server(stop.run), {"stops": 20, "lease": 5.0, "judge": True}),
    "restart": (lambda **sizes: restart.run(databases.vendor(server), **sizes), {"workflows": 200}),
    "replies": (on_server(replies.run), {"workflows": 200}),
    "drain": (on_server(drain.rolling), {"workflows": 100, "workers": 5}),
    "force": (on_server(drain.forced), {"workflows": 40}),
    "poison": (on_server(poison.crashing), {"workflows_": 60, "watch": 45.0}),
    "hang": (on_server(poison.hanging), {"workflows_": 60}),
}


def main() -> int:
    global server
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help=f"which (default: all of {', '.join(SCENARIOS)})")
    parser.add_argument("--mariadb", action="store_true", help="on a MariaDB server instead of PostgreSQL")
    options = parser.parse_args()
    server = MARIADB if options.mariadb else POSTGRES
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
