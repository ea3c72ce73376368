"""Behind PgBouncer in transaction mode: nobody listens through it, a direct connection hears, and checks tell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.checks import Tags, run_checks
from django.db import connection, connections

from django_durable import durable, transports
from django_durable.exceptions import DefinitionError
from django_durable.transports import choice
from tests.e2e.harness import databases, pooler
from tests.flows import workflows
from tests.integration.transports.ears import wait_until_hears
from tests.integration.worker.running import DEADLINE, wait_for

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(pooler.program() is None, reason="PgBouncer is not installed"),
]

THROUGH_DIRECT = {"wakeups": {"BACKEND": "postgres", "OPTIONS": {"LISTEN_DATABASE": "direct"}}}


@pytest.fixture(scope="module")
def direct(django_db_setup: None) -> Iterator[None]:
    """The alias ``direct`` leads past the pooler."""
    with pytest.MonkeyPatch.context() as patch:
        usual = connections.settings["default"]
        patch.setitem(connections.settings, "direct", {**usual, "TEST": {**usual["TEST"], "MIRROR": "default"}})
        yield


@pytest.fixture
def settings_behind(
    direct: None, transactional_db: None, configure: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """The entry of ``DATABASES`` that leads through PgBouncer."""
    url = databases.with_name(os.environ["DURABLE_TEST_DATABASE_URL"], connection.settings_dict["NAME"])
    with pooler.pooled(url) as pooled:
        usual = connections.settings["default"]
        behind = {**usual, "HOST": "127.0.0.1", "PORT": str(urlsplit(pooled).port), "OPTIONS": {**usual["OPTIONS"]}}
        monkeypatch.setitem(connections.settings, "default", behind)
        _connect_anew()
        yield behind
        choice.close()
        monkeypatch.undo()
        _connect_anew()


def _connect_anew() -> None:
    connections["default"].close()
    del connections["default"]


def test_a_worker_says_that_it_cannot_listen_and_polls(settings_behind, configure, make_worker, caplog):
    """A LISTEN would stay behind, and other clients of the pooler would collect notifications for ever."""
    configure(TRANSPORTS=["postgres"], POLL_SECONDS=None)
    worker = make_worker()
    wait_for(lambda: "LISTEN_DATABASE" in caplog.text, "it to be said")
    assert durable.start_workflow(workflows.echo, "polled").result(timeout=DEADLINE) == "polled"
    assert not any(listener.hears for listener in worker._listeners)
    assert worker._longest_poll() < 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM pg_listening_channels()")
        assert cursor.fetchall() == []


@pytest.mark.django_db(transaction=True, databases=["default", "direct"])
def test_a_direct_connection_hears_what_is_notified_through_the_pooler(settings_behind, configure, make_worker):
    configure(TRANSPORTS=THROUGH_DIRECT, POLL_SECONDS=3_600.0)
    wait_until_hears(make_worker())
    assert durable.start_workflow(workflows.echo, "heard").result(timeout=DEADLINE) == "heard"


def test_the_check_says_what_to_change(settings_behind, configure):
    configure(TRANSPORTS=["postgres"])
    settings_behind["OPTIONS"]["prepare_threshold"] = 5
    listening, cursors = run_checks(tags=[Tags.database], databases=["default"])
    assert (listening.id, cursors.id) == ("durable.W005", "durable.W006")
    assert "LISTEN_DATABASE" in str(listening.hint)
    assert "DISABLE_SERVER_SIDE_CURSORS" in str(cursors.hint)
    assert "prepare_threshold" in str(cursors.hint)
    configure(TRANSPORTS=THROUGH_DIRECT)
    settings_behind["OPTIONS"].pop("prepare_threshold")
    settings_behind["DISABLE_SERVER_SIDE_CURSORS"] = True
    assert run_checks(tags=[Tags.database], databases=["default"]) == []


def test_the_check_leaves_a_direct_connection_alone(transactional_db, configure):
    configure(TRANSPORTS=["postgres"])
    assert run_checks(tags=[Tags.database], databases=["default"]) == []


def test_a_database_to_listen_on_must_exist(transactional_db, configure):
    configure(TRANSPORTS={"wakeups": {"BACKEND": "postgres", "OPTIONS": {"LISTEN_DATABASE": "nowhere"}}})
    with pytest.raises(DefinitionError, match="'nowhere', which is not in DATABASES"):
        transports.all()
