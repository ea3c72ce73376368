"""Atomic activities and databases besides ours: what could not be undone with the activity is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from django_durable import durable
from example_project import database
from tests.e2e.harness.stage import Stage, staged
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_invariants

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

OTHER = "archive"
LIMIT = 60.0


@pytest.fixture
def stage(fresh_url: str, tmp_path: Path) -> Iterator[Stage]:
    """One worker with one slot, and a second database with a ledger of its own."""
    url = database.sqlite_url(tmp_path / "archive.sqlite3")
    settings: dict[str, Any] = {"default": {}, OTHER: database.from_url(url)}
    connections.settings[OTHER] = connections.configure_settings(settings)[OTHER]
    with connections[OTHER].schema_editor() as editor:
        editor.create_model(Entry)
    try:
        with staged(fresh_url, concurrency=1, settings={}, environment={"DURABLE_TEST_ARCHIVE_URL": url}) as prepared:
            prepared.start_workers(1)
            yield prepared
            prepared.fleet.check()
    finally:
        connections[OTHER].close()
        del connections[OTHER]
        del connections.settings[OTHER]


def test_an_atomic_activity_that_writes_to_another_database_fails_for_good_and_nothing_is_kept(stage: Stage) -> None:
    for way in ("simply", "in a transaction", "in silence", "another error"):
        handle = durable.start_workflow(workflows.catch, "flows.write_to_atomically", [OTHER, "k", way])
        failure = handle.result(timeout=LIMIT)
        assert (failure["type"], failure["attempts"]) == ("ForeignWrite", 1), way
        assert "'archive'" in failure["message"]
        assert "'default'" in failure["message"]
        assert_invariants(handle)
    assert not Entry.objects.exists()
    assert not Entry.objects.using(OTHER).exists()


def test_an_atomic_activity_may_read_from_another_database_and_an_ordinary_one_write_there(stage: Stage) -> None:
    Entry.objects.using(OTHER).create(kind="old", key="1")
    reading = durable.start_workflow(workflows.call, "flows.write_to_atomically", [OTHER, "k", "read"])
    assert reading.result(timeout=LIMIT) == 1
    refused = durable.start_workflow(workflows.catch, "flows.write_to_atomically", [OTHER, "k", "simply"])
    assert refused.result(timeout=LIMIT)["type"] == "ForeignWrite"
    writing = durable.start_workflow(workflows.call, "flows.write_to_both", [OTHER, "k"])  # by the same thread
    writing.result(timeout=LIMIT)
    assert Entry.objects.count() == Entry.objects.using(OTHER).count() == 2
