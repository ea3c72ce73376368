"""``make demo``: 50 orders, a worker killed half-way, and nothing lost or done twice that must not be.

Everything is real: a shop that answers by HTTP, a worker in a process of its own, SIGKILL. The figures of the last
table are read from the shop's own tables, not from anything that the library says about itself.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from example_project import database, processes
from example_project.processes import ManageProcess, ProcessSet
from example_project.progress import Progress
from example_project.shop_client import ShopClient

ORDERS = 50
ITEMS = ("mug", "notebook", "lamp")
STAGES = {"placed": 0, "paid": 1, "packed": 2, "done": 3}  # the shop's statuses of an order, in order
ACTIVITIES_PER_ORDER = 5
LEASE_SECONDS = 3  # short, so that the killed worker's orders are taken over while one watches
CONCURRENCY = 4  # few slots, so that there is a half-way
LIMIT_SECONDS = 120
POLL_SECONDS = 0.2

DIRECTORY = processes.BASE_DIR / ".demo"
DATABASE = processes.BASE_DIR / "shop.sqlite3"
WORKER = ("durable_worker", "--concurrency", str(CONCURRENCY))


class DemoFailed(Exception):
    """Something that the demo promises did not happen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is counted at the end."""

    placed: int
    completed: int
    activities_run: int
    run_again: int
    exactly_once_rows: int
    orders_with_one_row: int

    def problems(self) -> list[str]:
        """What is not as it should be, one sentence each."""
        expectations = {
            f"{ORDERS} orders should have been placed.": self.placed == ORDERS,
            "Every order should have completed.": self.completed == self.placed,
            "Every activity of every order should have run.": self.activities_run - self.run_again
            == ACTIVITIES_PER_ORDER * self.placed,
            "There should be exactly one exactly-once row for each order.": self.exactly_once_rows
            == self.orders_with_one_row
            == self.placed,
        }
        return [sentence for sentence, is_so in expectations.items() if not is_so]

    def table(self) -> str:
        rows = {
            "orders placed": self.placed,
            "orders completed": self.completed,
            "activities run": self.activities_run,
            "activities run again after the kill": self.run_again,
            "rows written by exactly-once activities": self.exactly_once_rows,
        }
        return "\n".join(f"  {label:<42}{number:>6}" for label, number in rows.items())


def main() -> int:
    began = time.monotonic()
    make_room()
    environment = {
        "EXAMPLE_DATABASE_URL": database.sqlite_url(DATABASE),
        "EXAMPLE_LEASE_SECONDS": str(LEASE_SECONDS),
        "PYTHONUNBUFFERED": "1",
    }
    try:
        with ProcessSet(environment=environment, log_directory=DIRECTORY) as running:
            completed = run(running)
    except (DemoFailed, processes.ProcessEnded, OSError) as error:
        print(f"\nThe demo failed: {error}\nLogs: {DIRECTORY}", file=sys.stderr)
        return 1
    return report(count(completed), time.monotonic() - began)


def make_room() -> None:
    """A fresh database and an empty log directory."""
    DIRECTORY.mkdir(exist_ok=True)
    for log in DIRECTORY.glob("*.log"):
        log.unlink()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{DATABASE}{suffix}").unlink(missing_ok=True)


def run(running: ProcessSet) -> int:
    """The demo itself. Returns how many orders completed."""
    running.run("migrate", "--verbosity", "0")
    port = processes.free_port()
    server = running.start("runserver", "--noreload", f"127.0.0.1:{port}")
    worker = running.start(*WORKER)
    shop = ShopClient(f"http://127.0.0.1:{port}")
    shop.wait_until_open(seconds=30)

    progress = Progress()
    progress.say(f"The shop is open at {shop.address}, worker {worker.pid} is running.")
    watch = Watch(shop, progress, orders=[place(shop, number) for number in range(ORDERS)])
    progress.say(f"{ORDERS} orders placed by HTTP POST.")

    watch.until(lambda: watch.fraction >= 0.5, server, worker)
    worker.kill()
    progress.say(f"Worker {worker.pid} killed with SIGKILL, half-way.")
    worker = running.start(*WORKER)
    progress.say(f"Worker {worker.pid} started. It takes over as soon as the dead one's lease has run out.")
    watch.until(lambda: watch.completed == ORDERS, server, worker)
    progress.finish()
    return watch.completed


def place(shop: ShopClient, number: int) -> int:
    answer = shop.place_order(f"Customer {number + 1}", ITEMS[number % len(ITEMS)])
    return int(answer["order"])


class Watch:
    """Polls the shop's status view for each order that is not done yet, and draws how far they are."""

    def __init__(self, shop: ShopClient, progress: Progress, *, orders: list[int]) -> None:
        self._shop = shop
        self._progress = progress
        self._states: dict[int, dict[str, Any]] = {order: {} for order in orders}
        self._deadline = time.monotonic() + LIMIT_SECONDS

    @property
    def completed(self) -> int:
        return sum(state.get("status") == "completed" for state in self._states.values())

    @property
    def fraction(self) -> float:
        """How far all orders are together, 0 to 1. An order's last stage is its workflow's completion."""
        stages = sum(
            STAGES[state.get("order_status", "placed")] + (state.get("status") == "completed")
            for state in self._states.values()
        )
        return stages / (len(self._states) * len(STAGES))

    def until(self, is_reached: Callable[[], bool], *needed: ManageProcess) -> None:
        """Poll until ``is_reached()``. Raises ``DemoFailed`` if it takes too long or an order fails."""
        while True:
            self._poll()
            if is_reached():
                return
            for process in needed:
                process.check()
            if time.monotonic() > self._deadline:
                raise DemoFailed(f"only {self.completed} orders were done after {LIMIT_SECONDS} s.")
            time.sleep(POLL_SECONDS)

    def _poll(self) -> None:
        for order, state in self._states.items():
            if state.get("status") == "completed":
                continue
            state.update(self._shop.status(order))
            if state["status"] not in ("pending", "running", "completed"):
                raise DemoFailed(f"order {order} is {state['status']}: {state}")
        self._progress.draw(self.fraction, f"{self.completed} of {len(self._states)} orders done")


def count(completed: int) -> Figures:
    """Read the shop's own tables."""
    with contextlib.closing(sqlite3.connect(DATABASE)) as connection:

        def number(query: str) -> int:
            return int(connection.execute(query).fetchone()[0])

        runs = number("SELECT count(*) FROM shop_activityrun")
        distinct = number("SELECT count(*) FROM (SELECT DISTINCT order_id, activity FROM shop_activityrun)")
        return Figures(
            placed=number("SELECT count(*) FROM shop_order"),
            completed=completed,
            activities_run=runs,
            run_again=runs - distinct,
            exactly_once_rows=number("SELECT count(*) FROM shop_payment"),
            orders_with_one_row=number(
                "SELECT count(*) FROM (SELECT order_id FROM shop_payment GROUP BY order_id HAVING count(*) = 1)"
            ),
        )


def report(figures: Figures, seconds: float) -> int:
    """Print the table; the exit code says whether everything is as promised."""
    print(f"\n{figures.table()}\n")
    problems = figures.problems()
    for problem in problems:
        print(f"  NOT SO: {problem}", file=sys.stderr)
    if problems:
        return 1
    print(f"  Nothing was lost, and every order was booked exactly once ({seconds:.0f} s).")
    print("  See the runs and their histories in the admin: make serve")
    return 0


if __name__ == "__main__":
    sys.exit(main())
