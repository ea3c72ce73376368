"""What MariaDB does in its own way, and how its tables are made to fit."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.core.checks import Tags, run_checks
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_durable import checks
from django_durable.models import Dispatch, WorkflowRun
from django_durable.store import (
    clock,
    collation,
    database,
    dispatch,
    mariadb,
    missing,
    outside,
    recovery,
    tasks,
)
from tests.integration.store import chains
from tests.integration.store.sessions import Session

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(transaction=True)]

TABLE = WorkflowRun._meta.db_table


def inexact() -> list[str]:
    return collation.inexact(connection, [model._meta.db_table for model in chains.our_models()])


@pytest.fixture
def loosely_compared() -> Any:
    """One of our tables as another tool might have made it."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
    yield
    collation.hold_exactly(apps.get_app_config("durable"), "default")


@pytest.mark.usefixtures("loosely_compared")
def test_tables_that_compare_text_inexactly_are_found_and_converted_by_migrate() -> None:
    assert inexact() == [TABLE]
    [warning] = run_checks(tags=[checks.TAG, Tags.database], databases=["default"])
    assert warning.id == "durable.W007"
    assert TABLE in warning.msg

    call_command("migrate", verbosity=0)

    assert inexact() == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT table_collation FROM information_schema.tables WHERE table_name = %s", [TABLE])
        assert (mariadb.COLLATION,) in cursor.fetchall()


def test_the_server_of_the_tests_is_fit_for_workflows() -> None:
    assert run_checks(tags=[checks.TAG, Tags.database], databases=["default"]) == []


def test_transactions_see_what_has_been_committed_since_they_began() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@SESSION.tx_isolation")
        assert cursor.fetchone() == ("READ-COMMITTED",)


def test_a_change_of_some_rows_does_not_wait_for_a_row_that_it_only_passes_by(session: Session) -> None:
    owner = chains.worker()
    locked, *others = [chains.owned(owner).chain_id for _ in range(4)]
    session.lock_for_change(locked)

    with database.limiting(), database.writing():
        dispatch.set_closing(others, owner)
        database.delete(Dispatch, others[:2])

    assert dict(Dispatch.objects.values_list("pk", "closing")) == {locked: False, others[2]: True}


def test_whoever_looks_for_rows_to_change_locks_them_by_their_keys() -> None:
    """What an index leads a locking search to stays locked, and hidden from claims, until its transaction ends."""
    owner, dead = chains.worker("one"), chains.worker("dead")
    for _ in range(3):
        claimed = chains.owned(dead)
        with database.writing():
            tasks.insert([chains.task(claimed, "due"), chains.task(claimed, "late", start_before=clock.read())])
        chains.start()
        chains.start(admitted=True)
        chains.start(definition="tests.gone")
    chains.die(dead)

    with CaptureQueriesContext(connection) as captured:
        chains.claim(owner, limit=2)
        chains.claim_tasks(owner, limit=2)
        recovery.release_chains([dead])
        missing.push_back([chains.DEFINITION])
        dispatch.make_due([chains.sleeping() for _ in range(3)])
        with database.sweeping():
            dispatch.admit_begun("default")
            outside.time_out_late()
            tasks.unstarted()
            tasks.abandoned([owner])

    locking = [one["sql"] for one in captured if "FOR UPDATE" in one["sql"]]
    assert len(locking) > 7
    for sql in locking:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {sql}")
            used = {table: key for _, _, table, _, _, key, *_ in cursor.fetchall()}
        assert {key for table, key in used.items() if not table.startswith("<")} == {"PRIMARY"}, sql
