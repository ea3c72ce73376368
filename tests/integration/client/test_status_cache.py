"""Statuses in a cache: quick, never older than is said, right about what has ended, and never in anybody's way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from django.core.cache import caches
from django.db import transaction
from django.http import HttpResponse
from django.test import RequestFactory

from django_durable import durable
from django_durable.client import reading
from django_durable.models import WorkflowRun
from django_durable.shortcuts import status_response
from django_durable.store import snapshots, status_cache
from tests.flows import serving, showing, workflows
from tests.integration.client import caches as backends
from tests.integration.worker.gates import make_gate
from tests.integration.worker.running import COMMITTING, configure, make_worker, wait_for, worker

__all__ = ["configure", "make_gate", "make_worker", "worker"]

pytestmark = COMMITTING

Use = Callable[..., None]


@pytest.fixture
def use(settings: Any, configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Use]:
    """Make a cache that of statuses: ``use("BrokenCache", SECONDS=2)``."""

    def choose(backend: str = "CountingCache", **options: Any) -> None:
        place = f"tests.integration.client.caches.{backend}"
        settings.CACHES = {**settings.CACHES, "statuses": {"BACKEND": place, "LOCATION": "statuses"}}
        configure(STATUS_CACHE={"ALIAS": "statuses", "SECONDS": 60, **options})

    monkeypatch.setattr(status_cache, "_rests_until", 0.0)
    backends.STUCK.set()
    yield choose
    backends.STUCK.set()
    if "statuses" in settings.CACHES:
        caches["statuses"].clear()
    backends.TIMEOUTS.clear()
    backends.CALLS.clear()


def test_a_status_that_is_known_costs_no_query(use: Use, django_assert_num_queries):
    use()
    handle = durable.start_workflow(workflows.echo.using(workflow_id="a"), 1)
    first = durable.get_workflow_status("a")
    with django_assert_num_queries(0):
        assert durable.get_workflow_status("a") == first
        assert handle.status() == first
    assert durable.start_workflow(workflows.echo, 2).status().status == "pending"


def test_workers_write_what_has_changed(use: Use, make_worker):
    use()
    make_worker()
    durable.start_workflow(showing.shown.using(workflow_id="a"), 2)
    wait_for(lambda: _known("a") and (_known("a").progress or {}).get("text") == "waiting", "it to wait")
    durable.signal_workflow("a", "go")
    ended = wait_for(lambda: _known("a").is_closed and _known("a"), "its end")
    assert ended == reading.status_of(WorkflowRun.objects.get())
    assert ended.result == {"step": 1, "state": "done"}


# Who polls a view


def poll(tag: str | None = None) -> HttpResponse:
    return status_response(RequestFactory().get("/", headers={"If-None-Match": tag} if tag else {}), "a")


def test_an_answer_that_is_known_costs_no_query_and_has_the_tag_of_the_database(use: Use, django_assert_num_queries):
    durable.start_workflow(workflows.echo.using(workflow_id="a"), 1)
    expected = poll()
    use()
    durable.get_workflow_status("a")
    with django_assert_num_queries(0):
        answer = poll()
        again = poll(answer.headers["ETag"])
    assert (answer.content, answer.headers) == (expected.content, expected.headers)
    assert (again.status_code, again.headers["ETag"]) == (304, answer.headers["ETag"])


def test_what_a_worker_has_written_answers_as_the_database_does(use: Use, make_worker, django_assert_num_queries):
    use()
    make_worker()
    durable.start_workflow(showing.shown.using(workflow_id="a"), 2)
    durable.signal_workflow("a", "go")
    wait_for(lambda: _known("a") and _known("a").is_closed, "its end")
    with django_assert_num_queries(0):
        answer = poll()
    caches["statuses"].clear()
    assert answer.headers["ETag"] == poll().headers["ETag"]
    assert "Retry-After" not in answer.headers


def test_who_has_the_answer_already_spares_the_next_ones_the_database(use: Use, django_assert_num_queries):
    use()
    durable.start_workflow(workflows.echo.using(workflow_id="a"), 1)
    tag = poll().headers["ETag"]
    caches["statuses"].clear()
    with django_assert_num_queries(1):
        assert poll(tag).status_code == 304
    with django_assert_num_queries(0):
        assert poll(tag).status_code == 304
    durable.terminate_workflow("a")
    ended = poll(tag)
    assert (ended.status_code, b'"terminated"' in ended.content) == (200, True)
    caches["statuses"].clear()
    assert poll(ended.headers["ETag"]).status_code == 304
    durable.start_workflow(workflows.echo.using(workflow_id="a"), 1)
    assert b'"pending"' in poll(ended.headers["ETag"]).content


def test_an_answer_that_is_old_has_an_old_tag(use: Use):
    """Else whoever has it would never be told of the end: each poll would find that nothing has changed."""
    use()
    durable.start_workflow(workflows.echo.using(workflow_id="a"), 1)
    before = snapshots.latest("a")
    assert before is not None
    durable.terminate_workflow("a")
    caches["statuses"].clear()
    status_cache.remember(before, since=time.monotonic())  # the end was not written: the cache was down
    old = poll()
    assert b'"pending"' in old.content
    caches["statuses"].clear()
    assert b'"terminated"' in poll(old.headers["ETag"]).content


def _known(workflow_id: str) -> Any:
    known = status_cache.recall(workflow_id)
    return reading.status_from(known) if known is not None else None


def test_who_writes_late_cannot_make_a_run_that_has_ended_look_open(use: Use, make_worker):
    use()
    durable.start_workflow(workflows.echo.using(workflow_id="a"), 1)
    before = snapshots.of(WorkflowRun.objects.get())
    make_worker()
    wait_for(lambda: _known("a") and _known("a").is_closed, "its end")
    status_cache.remember(before, since=time.monotonic())
    caches["statuses"].set(status_cache._key_of(before), status_cache._encoder.encode(before))
    assert durable.get_workflow_status("a").status == "completed"


def test_a_run_that_goes_on_after_its_end_is_seen_at_once(use: Use):
    use()
    handle = durable.start_workflow(workflows.echo.using(workflow_id="a"), 1)
    durable.get_workflow_status("a")
    handle.terminate()
    assert durable.get_workflow_status("a").status == "terminated"
    again = durable.start_workflow(workflows.echo.using(workflow_id="a"), 1)
    assert durable.get_workflow_status("a").run_id == again.run_id
    assert handle.status().status == "terminated"


def test_a_run_that_is_tried_again_is_seen_at_once(use: Use, make_worker):
    use()
    one = make_worker()
    handle = durable.start_workflow(serving.failing_order.using(workflow_id="a"), "ill")
    wait_for(lambda: _known("a") and _known("a").status == "failed", "its failure")
    one.stop()
    assert one.join(40)
    tried = handle.retry_failed()
    assert _known("a").run_id == tried.run_id
    status_cache.write([handle.run_id])  # somebody who is late
    assert durable.get_workflow_status("a").status == "pending"


def test_a_thread_that_must_not_wait_asks_the_cache_for_nothing(use: Use):
    use("BrokenCache")
    told: list[UUID] = []
    with status_cache.deferring(told.extend):
        handle = durable.start_workflow(workflows.echo.using(workflow_id="a"), 1)
        handle.pause()
        handle.resume()
        handle.terminate()
    assert backends.CALLS == []
    assert told == [handle.run_id] * 4


def test_what_is_rolled_back_is_not_written(use: Use):
    use()
    handle = durable.start_workflow(workflows.echo.using(workflow_id="a"), 1)
    durable.get_workflow_status("a")
    with transaction.atomic():
        handle.terminate()
        assert durable.get_workflow_status("a").status == "terminated"
        transaction.set_rollback(True)
    assert durable.get_workflow_status("a").status == "pending"
    assert reading.status_of(WorkflowRun.objects.get()).status == "pending"


def test_nothing_is_kept_for_longer_than_is_said(use: Use):
    use(SECONDS=7)
    durable.start_workflow(workflows.echo.using(workflow_id="a"), 1)
    durable.get_workflow_status("a")
    durable.terminate_workflow("a")
    assert backends.TIMEOUTS
    assert all(timeout is not None and timeout <= 7 for timeout in backends.TIMEOUTS)
    count = len(backends.TIMEOUTS)
    status_cache.remember(snapshots.of(WorkflowRun.objects.get()), since=time.monotonic() - 6.5)
    assert len(backends.TIMEOUTS) == count


def test_a_cache_that_is_down_is_asked_once_in_a_while_and_missed_by_nobody(use: Use, make_worker):
    use("BrokenCache")
    make_worker()
    handles = [durable.start_workflow(workflows.echo.using(workflow_id=f"a{number}"), number) for number in range(5)]
    assert [handle.result(timeout=40) for handle in handles] == list(range(5))
    for number in range(5):
        assert durable.get_workflow_status(f"a{number}").result == number
    assert len(backends.CALLS) == 1


def test_a_cache_that_hangs_keeps_no_worker_from_working(use: Use, make_worker):
    use("StuckCache")
    backends.STUCK.clear()
    make_worker()
    first = durable.start_workflow(workflows.echo.using(workflow_id="a"), 1)
    assert first.result(timeout=40) == 1
    wait_for(lambda: backends.CALLS, "the cache to be asked")
    more = [durable.start_workflow(workflows.chain, 3) for _ in range(10)]
    assert [one.result(timeout=40) for one in more] == [3] * 10
    assert durable.get_workflow_status("a").status == "completed"
    backends.STUCK.set()


def test_large_values_stay_in_the_database(use: Use):
    use(MAX_BYTES=500)
    handle = durable.start_workflow(workflows.echo.using(workflow_id="a"), "x" * 1_000)
    durable.get_workflow_status("a")
    assert status_cache.recall("a") is None
    handle.terminate()
    assert status_cache.recall("a") is None
    assert durable.get_workflow_status("a").status == "terminated"


def test_what_is_sealed_in_the_database_is_sealed_in_the_cache(use: Use, configure):
    backend = "django_durable.payloads.codecs.encryption.Fernet"
    configure(PAYLOADS={"CODECS": [{"BACKEND": backend, "OPTIONS": {"keys": [Fernet.generate_key().decode()]}}]})
    use()
    durable.start_workflow(workflows.echo.using(workflow_id="a"), "the secret word")
    shown = durable.get_workflow_status("a")
    known = status_cache.recall("a")
    assert known is not None
    assert "the secret word" not in str(known)
    assert durable.get_workflow_status("a") == shown
    assert "the secret word" in str(shown.input)
