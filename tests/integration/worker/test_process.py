"""What a worker does to its process and to its share of database connections."""

from __future__ import annotations

import sys
import threading

import pytest
from django.db import connections
from django.db.backends.signals import connection_created

from django_durable import durable, instrumentation
from django_durable.store import database, outages
from django_durable.worker import executors
from django_durable.worker.worker import SWITCH_INTERVAL
from tests.flows import workflows
from tests.integration.worker.running import DEADLINE, in_thread, wait_for


@pytest.fixture
def _default_switch_interval():
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_default_switch_interval")
def test_a_worker_lets_its_threads_take_turns_often(make_worker):
    make_worker()
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL)


def test_an_engine_that_gets_no_turn_says_so(worker):
    heard = []

    def receiver(**named):
        heard.append(named)

    instrumentation.engine_lagging.connect(receiver)
    try:
        while not heard:
            durable.start_workflow(workflows.call, "flows.hold_interpreter", [30_000_000]).result(timeout=DEADLINE)
    finally:
        instrumentation.engine_lagging.disconnect(receiver)
    assert heard[0]["worker"] == worker.id
    assert heard[0]["seconds"] > 0.05


def test_the_workers_own_threads_connect_outside_the_projects_pool(transactional_db, monkeypatch):
    """A pool of four connections would be used up by the worker itself."""
    configured = connections.settings[database.alias()]
    monkeypatch.setitem(configured, "OPTIONS", {**configured["OPTIONS"], "pool": True})
    monkeypatch.setitem(configured, "CONN_MAX_AGE", 0)
    seen = []

    def look():
        own = database.own_connection()
        seen.append((own is database.connection(), own.settings_dict["OPTIONS"].get("pool"), outages.is_usable()))
        seen.append(own.settings_dict["CONN_MAX_AGE"])

    in_thread(look).join(DEADLINE)
    assert seen == [(True, None, True), None]
    assert configured["OPTIONS"]["pool"], "the project's own threads keep their pool"


def test_a_thread_without_work_closes_its_connection_and_opens_it_again_for_the_next_activity(make_worker, monkeypatch):
    monkeypatch.setattr(executors, "IDLE_SECONDS", 0.1)
    opened = []

    def note(connection, **named):
        if threading.current_thread().name.startswith("durable-activity"):
            opened.append(connection)

    connection_created.connect(note)
    try:
        make_worker()
        for times in (1, 2):
            handle = durable.start_workflow(workflows.call, "flows.record", ["idle", "k"])
            assert handle.result(timeout=DEADLINE) == "k"
            wait_for(lambda: all(own.connection is None for own in opened), "the connection to be closed")
            assert len(opened) == times
    finally:
        connection_created.disconnect(note)
