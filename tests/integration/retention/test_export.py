"""What is deleted is in a file before, and what lies elsewhere goes with its run."""

from __future__ import annotations

import os
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography import fernet
from django.core.files.storage import storages
from django.core.management import CommandError, call_command

from django_durable.history import transcript
from django_durable.models import PrunedRun, Worker, WorkflowRun
from django_durable.store import clock
from django_durable.worker.retention import Retention
from tests.flows import workflows
from tests.integration.retention.conftest import DAY, assert_no_orphans, left, prune

LONG = "sesame, " * 1_000
KEY = fernet.Fernet.generate_key().decode()
CODECS = [
    {"BACKEND": "django_durable.payloads.codecs.encryption.Fernet", "OPTIONS": {"keys": [KEY]}},
    {"BACKEND": "django_durable.offloading.Storage", "OPTIONS": {"storage": "payloads", "from_bytes": 1_000}},
]


@pytest.fixture
def objects(settings: Any, tmp_path: Path) -> Path:
    """Where large payloads are kept: a Django storage with the alias ``payloads``."""
    where = tmp_path / "objects"
    backend = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(where)}}
    settings.STORAGES = {**settings.STORAGES, "payloads": backend}
    return where


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def read(directory: Path) -> list[transcript.Transcript]:
    return [one for file in files(directory) for one in transcript.read(file.read_text().splitlines(), name=file.name)]


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("durable_prune", *arguments, stdout=out)
    return out.getvalue()


def test_what_lies_elsewhere_goes_with_its_run_and_nothing_else_does(env, configure, objects):
    configure(RETENTION={"completed": DAY}, PAYLOADS={"CODECS": CODECS})
    env.start(workflows.echo.using(workflow_id="old"), LONG)
    env.run_until_idle()
    theirs = files(objects)
    assert len(theirs) >= 3  # its input, that of its first event, its result
    forged = ["json+storage", "AAAA"]  # a value of a user's that looks like one of ours
    env.start(workflows.echo.using(workflow_id="forged"), forged)
    env.advance(2 * DAY)
    kept = env.start(workflows.echo, LONG)
    assert prune() == 2
    assert set(files(objects)).isdisjoint(theirs)
    assert kept.result(timeout=60) == LONG
    assert_no_orphans()


def test_a_storage_that_fails_keeps_events_but_not_for_ever(env, configure, objects, monkeypatch):
    configure(RETENTION={"completed": DAY}, PAYLOADS={"CODECS": CODECS})
    env.start(workflows.echo, LONG)
    env.advance(2 * DAY)
    theirs = files(objects)
    with monkeypatch.context() as broken:
        broken.setattr(type(storages["payloads"]), "delete", _fail)
        with pytest.raises(ConnectionError):
            prune()
    assert not WorkflowRun.objects.exists()
    assert PrunedRun.objects.exists()
    assert files(objects) == theirs
    prune()
    assert left() == {}
    assert files(objects) == []


def _fail(*args: Any) -> None:
    raise ConnectionError("no storage")


def test_a_file_holds_whole_runs_with_what_lay_elsewhere_and_what_is_encrypted_stays_so(
    env, configure, objects, tmp_path
):
    configure(PAYLOADS={"CODECS": CODECS})
    env.start(workflows.echo, LONG)
    env.start(workflows.parent_of_sum, 2)
    env.advance(2 * DAY)
    told = command("--before", (env.now() - DAY).isoformat(), "--export", str(tmp_path / "kept"))
    assert [line.split()[-1] for line in told.splitlines()[1:]] == ["2", "1", "1"]
    assert left() == {}
    assert files(objects) == []
    found = read(tmp_path / "kept")
    assert sorted(one.run.name for one in found) == ["flows.adds", "flows.adds", "flows.echo", "flows.parent_of_sum"]
    assert [event.sequence for event in found[0].events] == list(range(1, len(found[0].events) + 1))
    text = "".join(path.read_text() for path in files(tmp_path / "kept"))
    assert "sesame" not in text
    assert "+storage" not in text
    (echo,) = [one for one in found if one.run.name == "flows.echo"]
    assert LONG in str(bytes(echo.history()[-1].event.result.data))  # type: ignore[attr-defined]


def test_a_file_is_on_the_disk_under_its_name_before_anything_goes(env, configure, tmp_path, monkeypatch, caplog):
    configure(RETENTION={"completed": DAY}, RETENTION_EXPORT=str(tmp_path / "kept"))
    env.start(workflows.echo, 1)
    env.advance(2 * DAY)
    leader = Worker.objects.filter(dead=False).earliest("pk").pk
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", _full)
        Retention().round(leader)
    assert "No space left on device" in caplog.text
    assert WorkflowRun.objects.count() == 1
    assert files(tmp_path / "kept") == []
    synced: list[str] = []

    def note(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        assert WorkflowRun.objects.count() == 1

    monkeypatch.setattr(os, "fsync", note)
    Retention().round(leader)
    assert [Path(name).suffix for name in synced] == [".part", ""]
    assert [one.run.name for one in read(tmp_path / "kept")] == ["flows.echo"]
    assert left() == {}


def _full(descriptor: int) -> None:
    raise OSError("No space left on device")


def test_a_dry_run_tells_what_would_go(env, configure):
    configure(RETENTION={"completed": DAY})
    env.start(workflows.echo, 1)
    env.start(workflows.parent_of_echoes, 2)
    env.start(workflows.fail, "x")
    env.advance(2 * DAY)
    told = command("--dry-run")
    assert [line.split() for line in told.splitlines()[1:3]] == [
        ["flows.echo", "completed", "3"],
        ["flows.parent_of_echoes", "completed", "1"],
    ]
    assert "Nothing has been deleted." in told
    assert WorkflowRun.objects.count() == 5
    before = ("--before", (env.now() - DAY).isoformat(), "--dry-run")
    assert "flows.fail" in command(*before)
    assert command(*before, "--status", "failed").split()[3:6] == ["flows.fail", "failed", "1"]
    assert command("--before", "30d") == "There is nothing to delete.\n"
    command("--name", "flows.parent_of_echoes")
    assert sorted(run.name for run in WorkflowRun.objects.all()) == ["flows.echo", "flows.fail"]


@pytest.mark.django_db
def test_without_a_retention_the_command_asks_what_is_meant(configure, monkeypatch):
    monkeypatch.setattr("django_durable.client.pruning.registry._workflows", {})
    with pytest.raises(CommandError, match="--before 90d"):
        command()


def test_runs_that_leave_the_middle_of_a_chain_are_in_a_file(env, tmp_path):
    env.start(workflows.daily.using(workflow_id="entity"), 0)
    env.advance(4 * DAY)
    middle = [run.pk for run in WorkflowRun.objects.for_workflow("entity")][1:-1]
    before = ["--before", f"{clock.read() + DAY:%Y-%m-%d}"]
    which = [*before, "--status", "continued_as_new"]
    assert "continued_as_new  3" in command(*which, "--dry-run")
    assert WorkflowRun.objects.count() == 5
    assert command(*before) == "There is nothing to delete.\n"  # the status has to be asked for
    assert "continued_as_new  3" in command(*which, "--export", str(tmp_path))
    assert [one.run.run_id for one in read(tmp_path)] == sorted(middle)
    assert WorkflowRun.objects.count() == 2
    assert_no_orphans()


def test_a_worker_exports_what_leaves_the_middle_of_a_chain_or_keeps_it(env, configure, tmp_path):
    configure(RETENTION={"continued_as_new": DAY}, RETENTION_EXPORT=str(tmp_path / "taken"))
    env.start(workflows.daily.using(workflow_id="entity"), 0)
    env.advance(4.5 * DAY)
    leader = Worker.objects.filter(dead=False).earliest("pk").pk
    (tmp_path / "taken").write_text("no directory")
    Retention().round(leader)
    assert WorkflowRun.objects.count() == 5
    configure(RETENTION={"continued_as_new": DAY}, RETENTION_EXPORT=str(tmp_path / "kept"))
    Retention().round(leader)
    assert len(read(tmp_path / "kept")) == 2
    assert WorkflowRun.objects.count() == 3
    assert_no_orphans()
