"""A status that is polled: what changes gives another tag, what does not costs one statement."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.middleware.gzip import GZipMiddleware
from django.middleware.http import ConditionalGetMiddleware
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.views.decorators.http import conditional_page

from django_durable import durable
from django_durable.history.status import Status
from django_durable.models import Dispatch, HistoryEvent, WorkflowRun
from django_durable.shortcuts import astatus_response, status_response
from django_durable.store import clock
from tests.flows import showing, workflows
from tests.integration.worker.running import DEADLINE, wait_for


def ask(workflow_id: str, tag: str | None = None, **options: Any) -> HttpResponse:
    return status_response(_request(tag), workflow_id, **options)


def _request(tag: str | None = None) -> HttpRequest:
    return RequestFactory().get("/", headers={"If-None-Match": tag} if tag else {})


@pytest.fixture
def pending() -> str:
    """The id of a run that no worker takes."""
    return durable.start_workflow(workflows.echo.using(workflow_id="polled"), "x" * 1_000).workflow_id


def test_the_first_answer_has_the_status_and_says_how_it_may_be_kept(pending):
    answer = ask(pending)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["ETag"].startswith('"')
    assert int(answer.headers["Retry-After"]) >= 1
    assert b'"status": "pending"' in answer.content
    assert b"xxx" not in answer.content  # the input is for staff
    assert b"xxx" in ask(pending, internal=True).content


def test_an_unchanged_poll_is_one_statement_that_reads_no_payload(pending):
    tag = ask(pending).headers["ETag"]
    with CaptureQueriesContext(connection) as queries:
        answer = ask(pending, tag)
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
    assert answer.headers["Cache-Control"] == "private, no-cache"
    (query,) = queries.captured_queries
    assert not {"input", "result", "failure", "data"} & set(query["sql"].replace(".", " ").replace(",", " ").split())


@pytest.mark.parametrize(
    "change",
    [
        lambda: WorkflowRun.objects.update(status=Status.PAUSED),
        lambda: WorkflowRun.objects.update(progress='{"text":"half"}'),
        lambda: WorkflowRun.objects.update(lingering='{"handlers":["add"]}'),
        lambda: Dispatch.objects.update(wakeup_at=None),
        lambda: Dispatch.objects.update(started_at=clock.now()),
        lambda: Dispatch.objects.update(owner=1),
        lambda: HistoryEvent.objects.create(sequence=2, type="T", time=clock.read(), data="{}", run_id=_run()),
        lambda: durable.terminate_workflow("polled"),
    ],
    ids=["status", "progress", "lingering", "wakeup", "start", "owner", "event", "end"],
)
def test_whatever_a_status_is_made_of_changes_the_tag(pending, change):
    tag = ask(pending).headers["ETag"]
    change()
    assert ask(pending, tag).status_code == 200
    assert ask(pending).headers["ETag"] != tag


def _run() -> Any:
    return WorkflowRun.objects.get().pk


def test_what_the_application_adds_and_who_may_see_change_the_tag(pending):
    tags = [
        ask(pending, **options).headers["ETag"]
        for options in ({}, {"internal": True}, {"extra": {"order": 1}}, {"extra": {"order": 2}})
    ]
    assert len(set(tags)) == 4
    assert ask(pending, tags[2], extra={"order": 1}).status_code == 304
    assert b'"order": 1' in ask(pending, extra={"order": 1, "status": "mine"}).content
    assert b"mine" not in ask(pending, extra={"status": "mine"}).content


def test_a_new_run_of_the_same_id_has_another_tag(worker):
    durable.start_workflow(workflows.echo.using(workflow_id="again"), 1).result(timeout=DEADLINE)
    tag = ask("again").headers["ETag"]
    durable.start_workflow(workflows.echo.using(workflow_id="again"), 1).result(timeout=DEADLINE)
    assert ask("again", tag).status_code == 200


def test_each_step_of_a_real_run_is_seen_by_who_polls(worker):
    handle = durable.start_workflow(showing.shown.using(workflow_id="shown"), 2)
    wait_for(lambda: b'"text": "waiting"' in ask("shown").content, "it to wait")
    wait_for(lambda: ask("shown").headers["Retry-After"] == "5", "it to be given back")
    waiting = ask("shown").headers["ETag"]
    handle.signal("go")
    handle.result(timeout=DEADLINE)
    done = ask("shown", waiting)
    assert (done.status_code, done.headers.get("Retry-After")) == (200, None)
    assert b'"state": "done"' in done.content
    assert ask("shown", done.headers["ETag"]).status_code == 304


@pytest.mark.parametrize(
    ("columns", "seconds"),
    [({"owner": 1}, "1"), ({"wakeup_at": None}, "5"), ({"hold": "paused", "wakeup_at": None}, "30")],
    ids=["in-hand", "asleep", "held"],
)
def test_how_soon_to_ask_again_follows_the_run(pending, columns, seconds):
    Dispatch.objects.update(**columns)
    if "hold" in columns:
        WorkflowRun.objects.update(status=Status.PAUSED)
    assert ask(pending).headers["Retry-After"] == seconds
    assert ask(pending, retry_after=7).headers["Retry-After"] == "7"


def test_middleware_and_conditional_page_agree(pending):
    def view(request: HttpRequest) -> HttpResponse:
        return status_response(request, pending)

    def compressed(request: HttpRequest) -> Any:
        return GZipMiddleware(ConditionalGetMiddleware(view))(request)

    request = RequestFactory().get("/", headers={"Accept-Encoding": "gzip"})
    tag = compressed(request).headers["ETag"]
    assert compressed(RequestFactory().get("/", headers={"If-None-Match": tag})).status_code == 304
    assert conditional_page(view)(_request(tag)).status_code == 304
    assert conditional_page(view)(_request('"other"')).status_code == 200


def test_the_async_twin_says_the_same(pending):
    assert async_to_sync(astatus_response)(_request(), pending).content == ask(pending).content


def test_what_is_not_there_is_not_found():
    with pytest.raises(Http404):
        ask("nobody")
