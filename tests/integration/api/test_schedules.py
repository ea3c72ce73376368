"""Schedules over HTTP: operators make, change and delete them; what they start belongs to whoever made them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_durable import Schedule, durable
from django_durable.models import Schedule as Row
from django_durable.models import WorkflowRun
from django_durable.testing.environments import Environment
from tests.flows import serving
from tests.integration.api.requests import Answer, Requests


def made(staff: Requests, name: str = "nightly", **body) -> Answer:
    return staff.post("schedules", **{"name": name, "workflow": "flows.order", "cron": "0 3 * * *", **body})


def test_a_schedule_is_made_and_starts_what_it_should(env: Environment, staff: Requests):
    answer = made(staff, args=[2], time_zone="Europe/Berlin", note="for the ledger", label="the night's order")
    assert answer.status == 201
    assert (answer.document["cron"], answer.document["time_zone"]) == ("0 3 * * *", "Europe/Berlin")
    assert (answer.document["note"], len(answer.document["upcoming"])) == ("for the ledger", 5)
    assert staff.client.get(answer.headers["Location"]).json() == answer.document
    env.advance(timedelta(days=1))
    run = WorkflowRun.objects.get()
    assert (run.schedule, run.name, run.label) == ("nightly", "flows.order", "the night's order")
    assert staff.get(staff.of(run.workflow_id, "status")).document["attributes"]["tenant"] == "staff"
    assert made(staff).problem == "schedule-already-exists"


def test_a_schedule_is_changed_and_what_is_not_given_stays(env: Environment, staff: Requests):
    made(staff, max_runs=3, overlap="buffer_one", catch_up_seconds=60)
    changed = staff.post("schedules/nightly/update", every_seconds=90, jitter_seconds=5).document
    assert (changed["cron"], changed["every_seconds"], changed["jitter_seconds"]) == (None, 90, 5)
    assert (changed["max_runs"], changed["overlap"], changed["catch_up_seconds"]) == (3, "buffer_one", 60)
    changed = staff.post("schedules/nightly/update", max_runs=None, end_at="2100-01-01T00:00:00Z").document
    assert (changed["max_runs"], changed["runs_left"], changed["every_seconds"]) == (None, None, 90)
    assert changed["end_at"].startswith("2100-01-01T00:00:00")
    assert staff.post("schedules/nightly/update").document["every_seconds"] == 90
    assert staff.post("schedules/nightly/update", end_at=None).document["end_at"] is None


def test_a_schedule_is_backfilled_and_deleted(env: Environment, staff: Requests):
    made(staff, cron="0 * * * *")
    before = (env.now() - timedelta(hours=5)).isoformat()
    answer = staff.post("schedules/nightly/backfill", start=before, end=env.now().isoformat(), overlap="allow_all")
    assert answer.status == 202
    assert answer.document["name"] == "nightly"
    assert answer.document["ticks"] in (5, 6)  # if it is exactly on the hour
    assert staff.post("schedules/nightly/delete").document == {"name": "nightly"}
    assert staff.post("schedules/nightly/delete").problem == "schedule-not-found"
    assert not Row.objects.exists()
    made(staff, every_seconds=1, cron=None)
    too_many = staff.post("schedules/nightly/backfill", start="2020-01-01T00:00:00Z", end=before)
    assert too_many.problem == "unfit-value"


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"cron": None}, "unfit-value"),
        ({"every_seconds": 60}, "unfit-value"),
        ({"cron": "every night"}, "unfit-value"),
        ({"time_zone": "Mars/Olympus"}, "unfit-value"),
        ({"start_at": "2030-01-01T00:00:00Z", "end_at": "2029-01-01T00:00:00Z"}, "unfit-value"),
        ({"args": ["three"]}, "unfit-value"),
        ({"args": [1, 2]}, "unfit-arguments"),
        ({"workflow": "flows.secret_order"}, "unknown-workflow"),
        ({"name": "x" * 201}, "unfit-request"),
        ({"name": "a\nb"}, "unfit-request"),
        ({"every_seconds": 0.5, "cron": None}, "unfit-request"),
        ({"overlap": "perhaps"}, "unfit-request"),
        ({"queue": "mine"}, "unfit-request"),
        ({"args": [1_000]}, "forbidden"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_and_nothing_is_made(env: Environment, staff: Requests, wrong, problem):
    assert made(staff, **wrong).problem == problem
    assert not Row.objects.exists()


def test_only_operators_may_and_only_what_is_in_the_api(env: Environment, red: Requests, staff: Requests):
    assert made(red).problem == "forbidden"
    made(staff)
    durable.create_schedule("hidden", Schedule(cron="0 3 * * *"), serving.secret_order)
    times = {"start": env.now().isoformat(), "end": env.now().isoformat()}
    for verb, body in (("update", {"every_seconds": 9}), ("backfill", times), ("delete", {})):
        assert red.post(f"schedules/nightly/{verb}", **body).problem == "forbidden"
        assert staff.post(f"schedules/hidden/{verb}", **body).problem == "schedule-not-found"
    assert made(staff, name="hidden").problem == "schedule-already-exists"
    assert Row.objects.count() == 2


def test_a_schedule_needs_the_permission_to_start_as_well(env: Environment, staff: Requests, configure):
    configure(PERMISSION="tests.flows.doorkeeping.no_starts")
    assert made(staff).problem == "forbidden"
    assert staff.get("schedules").status == 200
