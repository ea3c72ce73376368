"""Who may come in, what is refused at the door, and how it is said."""

from __future__ import annotations

import logging

import pytest
from django.contrib.auth import get_user_model
from django.core.checks import run_checks
from django.db import OperationalError
from django.test import Client

from django_durable import Schedule, checks, durable
from django_durable.contrib.api import checks as api_checks
from django_durable.contrib.api import options
from django_durable.models import Worker
from django_durable.store import leases
from django_durable.testing.environments import Environment
from tests.flows import serving
from tests.integration.api.requests import PROBLEM, Requests

KEY = "tests.flows.doorkeeping.Key"


def test_without_authentication_the_api_is_closed_whatever_checks_are_silenced(
    env: Environment, red: Requests, configure, settings
):
    configure(AUTH=None)
    settings.SILENCED_SYSTEM_CHECKS = ["durable.E302"]
    for path in ("workflows", "health", "docs", "openapi.json", "nothing", "workflows/x/status", ""):
        answer = red.get(path)
        assert (answer.status, answer.problem) == (403, "not-configured"), path
    assert red.start().problem == "not-configured"


def test_in_debug_it_is_open(env: Environment, red: Requests, configure, settings):
    configure(AUTH=None, FILTER=None, START=None, PERMISSION=None)
    settings.DEBUG = True
    started = red.start(workflow_id="x")
    assert started.status == 202
    assert red.get("workflows/x/status").document["input"] is None


@pytest.mark.parametrize("auth", [KEY, ["tests.flows.doorkeeping.by_session", KEY]])
def test_who_is_not_known_gets_nothing(env: Environment, nobody: Requests, configure, auth):
    configure(AUTH=auth)
    for path in ("workflows", "workflows/x/status", "workflows/x/result", "schedules", "queues", "workers", "health"):
        answer = nobody.get(path)
        assert (answer.status, answer.problem) == (401, "unauthorized"), path
        assert answer.headers["WWW-Authenticate"]
    assert nobody.start().status == 401


@pytest.mark.parametrize("auth", ["tests.flows.doorkeeping.by_session", "ninja.security.django_auth"])
def test_a_browser_cannot_be_made_to_send_requests(env: Environment, configure, auth, settings):
    configure(AUTH=auth, FILTER=None, START=None, PERMISSION=None)
    user = get_user_model().objects.create_user("ada", password="x")
    forged = Client(enforce_csrf_checks=True)
    forged.force_login(user)
    body = {"workflow": "flows.order"}
    refused = forged.post("/durable/workflows", body, content_type="application/json")
    assert (refused.status_code, refused["Content-Type"]) == (403, PROBLEM)
    assert forged.get("/durable/workflows").json()["items"] == []
    token = "a" * 32
    forged.cookies[settings.CSRF_COOKIE_NAME] = token
    allowed = forged.post("/durable/workflows", body, content_type="application/json", headers={"X-CSRFToken": token})
    assert allowed.status_code == 202


def test_operators_see_what_runs_workflows(env: Environment, red: Requests, staff: Requests):
    durable.create_schedule("nightly", Schedule(cron="0 3 * * *"), serving.order, 2)
    durable.create_schedule("hidden", Schedule(cron="0 3 * * *"), serving.secret_order)
    for path in ("schedules", "schedules/nightly/status", "queues", "workers"):
        assert red.get(path).problem == "forbidden"
    assert red.post("schedules/nightly/trigger").problem == "forbidden"
    assert [one["name"] for one in staff.get("schedules").document["items"]] == ["nightly"]
    shown = staff.get("schedules/nightly/status").document
    assert (shown["cron"], shown["workflow"], len(shown["upcoming"])) == ("0 3 * * *", "flows.order", 5)
    assert staff.get("schedules/hidden/status").problem == "schedule-not-found"
    assert staff.post("schedules/hidden/trigger").problem == "schedule-not-found"
    assert staff.post("schedules/nightly/pause", note="stocktaking").document["paused"]
    assert not staff.post("schedules/nightly/resume").document["paused"]
    assert staff.post("schedules/nightly/trigger").status == 202
    env.run_until_idle()
    assert len(staff.get("workflows").document["items"]) == 1
    assert staff.get("schedules", limit=1, after="nightly").document == {"items": [], "next_after": None}
    red.start()
    [queue] = [one for one in staff.get("queues").document["items"] if one["name"] == "default"]
    assert queue["runs_due"] == 1
    leases.register("host:1", queues=["default", "mail"], definitions=[], concurrency=4, release="1")
    workers = staff.get("workers").document["items"]
    assert (workers[0]["name"], workers[0]["queues"]) == ("host:1", ["default", "mail"])
    assert red.get("health").document["status"] == "ok"


def test_without_a_worker_it_is_not_healthy(db: None, red: Requests, env: Environment):
    Worker.objects.update(dead=True)
    assert (red.get("health").status, red.get("health").document["status"]) == (503, "no-workers")


def test_every_error_is_a_problem_document(env: Environment, red: Requests, configure, caplog):
    assert red.get("nothing").problem == "not-found"
    assert red.get("").problem == "not-found"
    wrong = red.post("workers")
    assert (wrong.status, wrong.problem, wrong.headers["Allow"]) == (405, "method-not-allowed", "GET")
    broken = red.client.post("/durable/workflows", "{", content_type="application/json")
    assert (broken.status_code, broken.json()["type"]) == (400, "urn:django-durable:problem:not-json")
    unfit = red.get("workflows", limit=0)
    assert unfit.document["errors"] == [
        {"in": ["query", "limit"], "message": "Input should be greater than or equal to 1"}
    ]
    configure(MAX_BODY_BYTES=100)
    assert (red.start("flows.order", kwargs={"customer": "x" * 100}).status) == 413
    configure(FILTER="tests.flows.doorkeeping.fails")
    with caplog.at_level(logging.CRITICAL, "django_durable.api"):
        assert red.get("workflows").problem == "internal-error"


def test_a_database_that_does_not_answer_is_no_fault_of_the_request(env: Environment, red: Requests, monkeypatch):
    def holders() -> None:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(leases, "holders", holders)
    assert (red.get("health").status, red.get("health").problem) == (503, "unavailable")


def test_pages_are_no_longer_than_is_allowed(env: Environment, red: Requests, configure):
    for _ in range(3):
        red.start()
    configure(PAGE_SIZE=2, MAX_PAGE_SIZE=2)
    assert len(red.get("workflows").document["items"]) == 2
    assert len(red.get("workflows", limit=1_000).document["items"]) == 2
    assert len(red.get("workflows", limit=1).document["items"]) == 1


def test_the_schema_and_its_page_are_there_unless_turned_off(env: Environment, red: Requests, configure):
    assert red.get("openapi.json").document["openapi"].startswith("3.")
    assert b"openapi.json" in red.client.get("/durable/docs").content
    configure(DOCS=False)
    assert red.get("openapi.json").problem == "not-found"
    assert red.get("docs").problem == "not-found"


def test_callbacks_may_have_the_same_prefix(env: Environment, red: Requests):
    assert red.client.post("/durable/callbacks/none/").json() == {"status": "unknown"}


def test_checks_find_an_open_api_and_wrong_options(configure, settings):
    assert run_checks(tags=[checks.TAG], databases=[]) == []
    configure(AUTH=None)
    assert [one.id for one in api_checks.check_guard(None)] == ["durable.E302"]
    settings.ROOT_URLCONF = "example_project.urls"
    assert api_checks.check_guard(None) == []
    settings.DURABLE = {
        "API": {"AUHT": "x", "FILTER": "tests.nothing", "PAGE_SIZE": 0, "AUTH": "tests.flows.doorkeeping"}
    }
    messages = [str(one.msg) for one in api_checks.check_options(None)]
    assert len(messages) == 4
    assert "Did you mean 'AUTH'?" in messages[0]
    assert set(api_checks.EXPECTED) == options.NAMES
