"""Workers that come before the tables."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from django.db import connection

from django_durable import durable
from django_durable.models import Worker
from tests.flows import workflows
from tests.integration.worker.running import DEADLINE, wait_for

TABLE = Worker._meta.db_table
GONE = f"{TABLE}_gone"


def rename(old: str, new: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")


@pytest.fixture
def no_tables(transactional_db: None) -> Iterator[None]:
    rename(TABLE, GONE)
    yield
    if TABLE not in connection.introspection.table_names():
        rename(GONE, TABLE)


def test_a_worker_that_is_to_end_when_nothing_is_due_does_not_wait_for_migrations(no_tables, make_worker, caplog):
    worker = make_worker(burst=True, exit_code=1)
    assert worker.join(DEADLINE)
    assert worker.exit_code == 1
    assert "apply the migrations (manage.py migrate). A worker with --burst does not wait for that" in caplog.text


def test_any_other_worker_says_so_and_waits_and_its_heartbeat_is_silent(no_tables, make_worker, configure, caplog):
    configure(LEASE_SECONDS=0.3)
    caplog.set_level(logging.WARNING, "django_durable.worker")
    make_worker()
    wait_for(lambda: caplog.text.count("cannot register yet") >= 2, "two tries")
    assert "lease is not renewed" not in caplog.text
    rename(GONE, TABLE)
    configure(LEASE_SECONDS=15)
    assert durable.start_workflow(workflows.echo, 7).result(timeout=DEADLINE) == 7
