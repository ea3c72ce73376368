"""Schedules in the admin: made, changed and acted on through the forms that staff see."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client

from django_durable import Schedule, durable
from django_durable.models import Schedule as Row
from tests.flows import workflows

pytestmark = pytest.mark.django_db

LIST = "/admin/durable/schedule/"
FORM = {
    "name": "nightly",
    "workflow": "flows.echo",
    "arguments": '{"value": 5}',
    "note": "",
    "cron": "0 3 * * *",
    "every": "",
    "time_zone": "Europe/Berlin",
    "overlap": "skip",
    "catch_up": "01:00:00",
    "jitter": "0",
    "start_at_0": "",
    "start_at_1": "",
    "end_at_0": "",
    "end_at_1": "",
    "max_runs": "",
}


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("staff"))
    return client


def test_a_schedule_is_made_by_the_form(staff: Client) -> None:
    answer = staff.post(f"{LIST}add/", FORM)

    assert answer.status_code == 302, answer.content.decode()
    status = durable.get_schedule("nightly").status()
    assert (status.schedule.cron, status.schedule.time_zone) == ("0 3 * * *", "Europe/Berlin")
    assert status.next_at is not None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cron": "99 * * * *"}, "Bad minute"),
        ({"cron": "", "every": ""}, "exactly one of cron, every and calendar"),
        ({"arguments": '{"wrong": 1}'}, "was called wrongly"),
        ({"time_zone": "Mars/Olympus"}, "no time zone"),
    ],
)
def test_what_could_not_work_is_said_and_nothing_is_saved(staff: Client, changes: dict[str, str], says: str) -> None:
    answer = staff.post(f"{LIST}add/", FORM | changes)

    assert says in answer.content.decode()
    assert not Row.objects.exists()


def test_a_schedule_is_changed_by_the_form(staff: Client) -> None:
    durable.create_schedule("nightly", Schedule(every=timedelta(hours=1)), workflows.echo, 1)

    page = staff.get(f"{LIST}nightly/change/")
    answer = staff.post(f"{LIST}nightly/change/", FORM | {"cron": "30 4 * * *", "note": "moved"})

    assert "01:00:00" in page.content.decode()
    assert answer.status_code == 302, answer.content.decode()
    status = durable.get_schedule("nightly").status()
    assert (status.schedule.cron, status.schedule.every, status.note) == ("30 4 * * *", None, "moved")


def test_what_code_declares_is_shown_and_not_changed(staff: Client) -> None:
    durable.create_schedule("nightly", Schedule(every=timedelta(hours=1)), workflows.echo, 1)
    Row.objects.update(declared=True)

    assert staff.get(f"{LIST}nightly/change/").status_code == 200
    assert staff.post(f"{LIST}nightly/change/", FORM).status_code == 403


def test_what_is_selected_is_paused_resumed_and_triggered(staff: Client) -> None:
    handle = durable.create_schedule("nightly", Schedule(every=timedelta(hours=1)), workflows.echo, 1)

    for action, check in (
        ("pause", lambda: handle.status().paused),
        ("resume", lambda: not handle.status().paused),
        ("trigger", lambda: handle.status().waiting == 1),
    ):
        staff.post(LIST, {"action": action, "_selected_action": ["nightly"]})
        assert check(), action
    assert "nightly" in staff.get(LIST).content.decode()
