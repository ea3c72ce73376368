"""Queues in the admin: what waits in them, and their limits and pauses, through the forms that staff see."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from django_durable import Rate, durable
from django_durable.models import Queue
from tests.flows import workflows

pytestmark = pytest.mark.django_db

LIST = "/admin/durable/queue/"
EMPTY = dict.fromkeys(
    ("concurrency", "concurrency_per_worker", "concurrency_per_key", "rate", "rate_period", "rate_burst"), ""
) | dict.fromkeys(("key_rate", "key_rate_period", "key_rate_burst"), "")
FORM = EMPTY | {"name": "mail", "counts": "activities", "concurrency": "5", "weights": '{"acme": 3}', "fair": "on"}


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("staff"))
    return client


def test_limits_are_set_by_the_form(staff: Client) -> None:
    answer = staff.post(f"{LIST}add/", FORM | {"rate": "100", "rate_period": "00:01:00"})

    assert answer.status_code == 302, answer.content.decode()
    options = durable.get_queue("mail").options
    assert (options.concurrency, options.rate) == (5, Rate(100, per=timedelta(minutes=1)))
    assert (options.fair, options.weights) == (True, {"acme": 3})


def test_limits_are_changed_and_taken_away_by_the_form(staff: Client) -> None:
    durable.set_queue("mail", concurrency=1, rate_per_key=Rate(7, per=timedelta(hours=1)), weights={"big": 9})
    durable.pause_queue("mail", "why not")

    page = staff.get(f"{LIST}mail/change/").content.decode()
    answer = staff.post(f"{LIST}mail/change/", FORM | {"concurrency": "", "counts": "workflows", "weights": ""})

    assert all(shown in page for shown in ("01:00:00", 'value="7"', "&quot;big&quot;: 9"))
    assert answer.status_code == 302, answer.content.decode()
    status = durable.get_queue("mail")
    assert (status.options.concurrency, status.options.rate_per_key, status.options.weights) == (None, None, {})
    assert (status.options.counts, status.paused, status.reason) == ("workflows", True, "why not")


def test_headers_of_queues_without_limits_are_as_those_of_the_list(staff: Client) -> None:
    durable.set_queue("mail", concurrency=5)
    durable.start_workflow(workflows.echo, 1)

    page = staff.get(LIST).content.decode()

    listed, others = page.split('<table id="durable-other-queues">')
    framed = re.compile(r'<th scope="col"[^>]*>\s*<div class="text"><span>(\w+)</span></div>')  # or else not padded
    assert "Workers" in framed.findall(listed)
    assert framed.findall(others) == ["Name", "Waiting", "Workers"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rate": "5"}, "A rate needs both"),
        ({"weights": '{"acme": 0}'}, "weight of &#x27;acme&#x27;"),
        ({"concurrency": "0"}, "concurrency must be a whole number from 1"),
    ],
)
def test_what_could_not_work_is_said_and_nothing_is_saved(staff: Client, changes: dict[str, str], says: str) -> None:
    answer = staff.post(f"{LIST}add/", FORM | changes)

    assert says in answer.content.decode()
    assert not Queue.objects.exists()


def test_the_list_shows_what_waits_in_queues_with_limits_and_in_others(staff: Client) -> None:
    durable.set_queue("mail", concurrency=2, fair=True)
    durable.start_workflows([workflows.echo.using(queue="mail").call(1), workflows.echo.using(queue="b&b").call(1)])

    page = staff.get(LIST).content.decode()

    assert "activities: 2 at a time; keys take turns" in page
    assert '<td class="field-depth">1</td>' in page
    assert '<a href="add/?name=b%26b">b&amp;b</a>' in page
    assert 'value="b&amp;b"' in staff.get(f"{LIST}add/?name=b%26b").content.decode()


def test_what_is_selected_is_paused_and_resumed(staff: Client) -> None:
    durable.set_queue("mail", concurrency=2)
    durable.set_queue("other", concurrency=2)

    staff.post(LIST, {"action": "pause", "_selected_action": ["mail"]})
    assert durable.get_queue("mail").reason == "By staff in the admin."
    assert "durable-paused" in staff.get(LIST).content.decode()
    answer = staff.post(LIST, {"action": "resume", "_selected_action": ["mail", "other"]}, follow=True)

    assert "1 resumed." in answer.content.decode()
    assert not durable.get_queue("mail").paused


def test_who_may_only_look_changes_nothing(client: Client) -> None:
    durable.set_queue("mail", concurrency=2)
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_queue"))
    client.force_login(user)

    assert client.get(LIST).status_code == 200
    assert client.post(f"{LIST}mail/change/", FORM).status_code == 403
    client.post(LIST, {"action": "pause", "_selected_action": ["mail"]})
    assert not durable.get_queue("mail").paused
