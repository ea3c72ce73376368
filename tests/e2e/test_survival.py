"""Workers that are killed, stopped, cut off, told to end, poisoned; a server that crashes: small sizes.

``python -m benchmarks.chaos`` runs the same scenarios in full size. What each of them checks at its end is listed in
``harness/verdict.py``: all runs completed with the right result, every atomic effect exactly once, histories gapless
and written by the owners of the runs alone, nothing left over, no worker ended by itself.
"""

from __future__ import annotations

import json

import pytest
from django.db import connection

from tests.e2e.harness import pooler
from tests.e2e.harness.proxy import Cut
from tests.e2e.harness.scenarios import drain, families, kill, poison, replies, restart, stop, updating

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_workers_that_are_killed_lose_nothing(fresh_url: str) -> None:
    figures = kill.run(fresh_url, workflows=30, steps=4, seconds=0.05, kills=2, every=1.0, concurrency=4)

    assert figures["kills"] == 2


@pytest.mark.skipif(pooler.program() is None, reason="PgBouncer is not installed")
@pytest.mark.postgres
def test_workers_that_are_killed_lose_nothing_through_pgbouncer_in_transaction_mode(
    fresh_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts and workers: everything goes through it, and each activity thread keeps its connection."""
    monkeypatch.setenv("PGAPPNAME", "starter")  # a client without a name would write under that of another one
    lasting = json.dumps({"CONN_MAX_AGE": 600, "DISABLE_SERVER_SIDE_CURSORS": True})
    with pooler.pooled(fresh_url) as url:
        kill.run(
            url,
            workflows=30,
            steps=4,
            seconds=0.05,
            kills=2,
            every=1.0,
            concurrency=4,
            environment={"DURABLE_TEST_DATABASE_SETTINGS": lasting},
        )


@pytest.mark.postgres
def test_workers_that_are_killed_lose_nothing_through_djangos_pool(fresh_url: str) -> None:
    """It has fewer connections than there are threads for activities."""
    pool = json.dumps({"OPTIONS": {"pool": {"min_size": 1, "max_size": 3}}})
    kill.run(
        fresh_url,
        workflows=30,
        steps=4,
        seconds=0.05,
        kills=2,
        every=1.0,
        concurrency=4,
        environment={"DURABLE_TEST_DATABASE_SETTINGS": pool},
    )


def test_updates_are_answered_once_whatever_becomes_of_workers(fresh_url: str) -> None:
    figures = updating.run(fresh_url, workflows_=4, updates=40, kills=2)

    assert figures["kills"] == 2


def test_families_are_complete_whatever_becomes_of_workers(fresh_url: str) -> None:
    figures = families.run(fresh_url, clans=8, steps=6, seconds=0.1, kills=2, every=0.7)

    assert figures["kills"] == 2


@pytest.mark.server  # on SQLite a process that stands still inside a transaction stops all writers
def test_a_worker_that_stands_still_is_taken_over_and_writes_nothing_when_it_goes_on(fresh_url: str) -> None:
    figures = stop.run(fresh_url, stops=2, lease=2.0, open_runs=30)

    assert figures["chains taken over"] > 0


@pytest.mark.skipif(bool(restart.missing(connection.vendor)), reason=restart.missing(connection.vendor))
@pytest.mark.server
@pytest.mark.usefixtures("unblocked")
def test_a_crash_of_the_database_server_loses_nothing_and_kills_nobody() -> None:
    restart.run(connection.vendor, workflows=40, restarts=1, steps=4, seconds=0.05)


@pytest.mark.server
def test_nothing_is_executed_again_because_a_reply_was_lost(fresh_url: str) -> None:
    figures = replies.run(fresh_url, workflows=40, steps=6, share=0.1)

    assert figures[Cut.REPLY_LOST.value] > 0


@pytest.mark.postgres
def test_workers_are_replaced_one_by_one_and_nothing_is_executed_again(fresh_url: str) -> None:
    drain.rolling(fresh_url, workflows=24, workers=2, steps=4, seconds=0.05)


@pytest.mark.postgres
def test_a_second_sigterm_ends_a_worker_at_once_and_its_work_is_taken_over(fresh_url: str) -> None:
    drain.forced(fresh_url, workflows=12, steps=2, seconds=0.5)


@pytest.mark.postgres
def test_a_workflow_that_kills_its_workers_is_parked_and_the_others_complete(fresh_url: str) -> None:
    poison.crashing(fresh_url, workflows_=10)


@pytest.mark.postgres
def test_a_workflow_that_hangs_in_c_code_costs_one_worker_and_is_parked(fresh_url: str) -> None:
    poison.hanging(fresh_url, workflows_=10)
