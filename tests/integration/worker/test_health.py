"""``durable_health``: workers that make no progress are found out, and so is what they need and do not find."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection, connections
from django.db.migrations.recorder import MigrationRecorder

from django_durable.models import Worker
from django_durable.store import database
from django_durable.transports.polling import PollingTransport
from django_durable.worker import liveness
from tests.integration.worker.processes import DyingWorker, MakeDyingWorker
from tests.integration.worker.running import wait_for

SILENCE = 4.0  # seconds; a sign is renewed once a second


@pytest.fixture(autouse=True)
def _own_directory(configure: Callable[..., None], tmp_path: Path) -> None:
    configure(HEALTH_DIRECTORY=str(tmp_path / "health"), LEASE_SECONDS=60)


def health(*arguments: str) -> tuple[int, dict[str, str]]:
    """The exit code, and what is said of each thing; empty: it is well."""
    out, code = io.StringIO(), 0
    try:
        call_command("durable_health", "--json", "--max-silence", str(SILENCE), *arguments, stdout=out)
    except SystemExit as ended:
        code = int(str(ended.code))
    printed = json.loads(out.getvalue())
    assert printed["healthy"] is (code == 0)
    return code, {one["name"]: one["problem"] for one in printed["findings"]}


def started(make: MakeDyingWorker, at: str) -> DyingWorker:
    process = make(at)
    wait_for(lambda: any(sign.pid == process.pid for sign in liveness.signs()), "the worker to show itself")
    return process


@pytest.mark.slow
def test_a_worker_that_is_stopped_is_not_alive_although_its_process_is(make_dying_worker):
    process = started(make_dying_worker, "never")
    name = f"worker {process.pid} (default)"
    assert health() == (0, {name: "", "database": "", "migrations": "", "transport polling": ""})
    process.stop()
    wait_for(lambda: health("--live")[0], "its silence to be noticed")
    assert health("--live")[1][name].startswith("no progress for ")
    assert health("--ready")[0] == 0
    process.go_on()
    wait_for(lambda: health("--live")[0] == 0, "it to be alive again")
    process.kill()
    assert health("--live")[0] == 1
    assert not list(liveness.directory().iterdir()), "what it has left is tidied up"


@pytest.mark.slow
def test_an_engine_that_hangs_is_not_alive_although_its_threads_are(make_dying_worker):
    make_dying_worker("hanging")
    wait_for(Worker.objects.exists, "it to register")
    assert health("--live")[0] == 1, "it has not made a single step"
    make_dying_worker("never")
    wait_for(lambda: health("--live")[0] == 0, "the other one to show itself")


def test_a_worker_that_ends_in_order_leaves_no_sign(make_worker):
    worker = make_worker(may_exit=True)
    wait_for(liveness.signs, "it to show itself")
    [sign] = liveness.signs()
    assert (sign.pid, sign.queues) == (os.getpid(), ("default",))
    worker.stop()
    wait_for(lambda: not liveness.signs(), "its sign to be gone")
    assert not list(liveness.directory().iterdir())


def test_a_sign_that_somebody_has_deleted_is_made_again(monkeypatch):
    monkeypatch.setattr(liveness, "RENEW_SECONDS", 0)
    sign = liveness.Sign(("default",))
    sign.renew()
    for path in liveness.directory().iterdir():
        path.unlink()
    sign.renew()
    sign.renew()
    assert len(liveness.signs()) == 1
    sign.remove()


def test_what_a_killed_worker_has_left_is_tidied_up_by_the_next_one():
    liveness.directory().mkdir(parents=True)
    left = liveness.directory() / "1.worker"
    left.write_text('{"pid": 1, "queues": ["default"]}')
    sign = liveness.Sign(("default",))
    sign.renew()
    assert not left.exists()
    sign.remove()


def test_a_directory_that_cannot_be_written_is_said_once_and_hurts_nobody(configure, tmp_path, caplog):
    (tmp_path / "file").touch()
    configure(HEALTH_DIRECTORY=str(tmp_path / "file"))
    sign = liveness.Sign(("default",))
    for _ in range(3):
        sign.renew()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_projects_with_other_databases_do_not_see_one_another(configure, monkeypatch):
    configure(HEALTH_DIRECTORY="")
    before = liveness.directory()
    monkeypatch.setitem(connections.settings[database.alias()], "NAME", "another")
    assert liveness.directory() != before


def test_without_a_worker_nothing_lives_here():
    code, findings = health("--live")
    assert code == 1
    assert "none runs here" in findings["worker"]


def test_migrations_that_are_not_applied_make_it_unready():
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("durable", "0002_storage")
    try:
        code, findings = health("--ready")
    finally:
        recorder.record_applied("durable", "0002_storage")
    assert code == 1
    assert "0002_storage" in findings["migrations"]


def test_a_transport_that_cannot_be_reached_makes_it_unready(monkeypatch):
    def check(transport: Any) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(PollingTransport, "check", check)
    assert health("--ready") == (1, {"database": "", "migrations": "", "transport polling": "nobody there"})


def test_a_database_that_does_not_answer_makes_it_unready(monkeypatch):
    def cursor() -> Any:
        raise OperationalError("no route to host")

    monkeypatch.setattr(database, "cursor", cursor)
    assert health("--ready") == (1, {"database": "no route to host", "transport polling": ""})
