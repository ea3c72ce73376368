"""What staff do to runs in the admin: asked first, by POST only, with their permission, and logged."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from django_durable import durable
from django_durable.admin.acts import ACTS
from django_durable.client import WorkflowHandle
from django_durable.models import HistoryEvent, InboxMessage, WorkflowRun
from tests.flows import workflows

pytestmark = pytest.mark.django_db

LIST = reverse("admin:durable_workflowrun_changelist")


def client_of(*permissions: str, enforce_csrf_checks: bool = False) -> Client:
    user = User.objects.create_user("grace", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client(enforce_csrf_checks=enforce_csrf_checks)
    client.force_login(user)
    return client


@pytest.fixture
def staff() -> Client:
    return client_of("view_workflowrun", "act_on_workflowrun")


@pytest.fixture
def handle():
    return durable.start_workflow(workflows.approval.using(workflow_id="order-1"))


def page(handle) -> str:
    return reverse("admin:durable_workflowrun_change", args=[handle.run_id])


def act(handle, name: str) -> str:
    return reverse("admin:durable_workflowrun_act", args=[handle.run_id, name])


def titles(client: Client, handle) -> list[str]:
    return [button["title"] for button in client.get(page(handle)).context["buttons"]]


# Permission


def test_looking_is_not_acting(handle):
    client = client_of("view_workflowrun")
    assert titles(client, handle) == []
    assert client.get(act(handle, "terminate")).status_code == 403
    assert client.post(act(handle, "terminate"), {"reason": "x"}).status_code == 403
    listed = client.post(LIST, {"action": "terminate", "_selected_action": [str(handle.run_id)], "confirmed": "yes"})
    assert listed.status_code in (200, 302, 403)
    assert "Terminate" not in client.get(LIST).content.decode()
    assert handle.status().status == "pending"
    assert not LogEntry.objects.exists()


def test_acting_needs_looking(handle):
    client = client_of("act_on_workflowrun")
    assert client.post(act(handle, "terminate"), {"reason": "x"}).status_code == 403
    assert handle.status().status == "pending"


def test_a_request_without_a_token_is_refused(handle):
    client = client_of("view_workflowrun", "act_on_workflowrun", enforce_csrf_checks=True)
    assert client.post(act(handle, "terminate"), {"reason": "x"}).status_code == 403
    assert handle.status().status == "pending"


@pytest.mark.parametrize("name", ["cancel", "terminate", "pause", "resume", "retry", "reset"])
def test_looking_at_the_page_that_asks_does_nothing(staff, handle, name):
    answer = staff.get(act(handle, name))
    assert answer.status_code == 200
    assert "order-1" in answer.content.decode()
    assert 'name="reason"' in answer.content.decode()
    assert handle.status().status == "pending"
    assert not InboxMessage.objects.exists()
    assert not LogEntry.objects.exists()


# One run


def test_the_page_of_a_run_has_buttons_for_what_can_be_done(staff, handle):
    assert titles(staff, handle) == ["Cancel", "Terminate", "Pause", "Reset"]
    handle.pause()
    assert titles(staff, handle) == ["Cancel", "Terminate", "Resume", "Reset"]
    handle.terminate()
    assert titles(staff, handle) == ["Reset"]
    WorkflowRun.objects.update(status="failed")
    assert titles(staff, handle) == ["Retry", "Reset"]


def test_a_run_is_terminated_with_a_reason_and_it_is_logged_who_did_it(staff, handle):
    answer = staff.post(act(handle, "terminate"), {"reason": "wrong price"}, follow=True)
    assert answer.redirect_chain == [(page(handle), 302)]
    assert "Workflow order-1 was terminated." in answer.content.decode()
    assert handle.status().error_message == "wrong price"
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.object_id) == ("grace", str(handle.run_id))
    assert "wrong price" in entry.get_change_message()


def test_without_a_reason_it_says_who(staff, handle):
    staff.post(act(handle, "terminate"), {"reason": ""})
    assert handle.status().error_message == "By grace in the admin."


def test_a_run_is_paused_resumed_and_cancelled(staff, handle):
    staff.post(act(handle, "pause"), {"reason": "lunch"})
    assert handle.status().status == "paused"
    staff.post(act(handle, "resume"), {"reason": ""})
    assert handle.status().status == "pending"
    staff.post(act(handle, "cancel"), {"reason": "enough"})
    assert "enough" in InboxMessage.objects.get().data
    assert LogEntry.objects.count() == 3


def test_a_run_is_reset_and_the_new_one_is_shown(staff, handle):
    handle.terminate()
    answer = staff.post(act(handle, "reset"), {"reason": "again", "to_event": "1", "reapply_signals": "on"})
    new = WorkflowRun.objects.open().get()
    assert answer["Location"] == reverse("admin:durable_workflowrun_change", args=[new.pk])
    assert new.continued_from == handle.run_id
    wrong = staff.post(act(handle, "reset"), {"reason": "", "to_event": "x"})
    assert wrong.status_code == 200
    assert "Enter a whole number" in wrong.content.decode()


def test_what_cannot_be_done_is_said(staff, handle):
    answer = staff.post(act(handle, "retry"), {"reason": ""}, follow=True)
    assert "only one that has failed or timed out can be retried" in answer.content.decode()
    answer = staff.post(act(handle, "reset"), {"reason": "", "to_event": "77"}, follow=True)
    assert "There is no event 77" in answer.content.decode()
    handle.terminate()
    answer = staff.post(act(handle, "pause"), {"reason": ""}, follow=True)
    assert "Workflow order-1 is not to be paused any more." in answer.content.decode()
    assert not LogEntry.objects.exists()


def test_what_there_is_not_is_not_found(staff, handle):
    assert staff.get(act(handle, "explode")).status_code == 404
    gone = reverse("admin:durable_workflowrun_act", args=["01900000-0000-7000-8000-000000000000", "cancel"])
    assert staff.get(gone).status_code == 404


# Many


def select(name: str, *handles: WorkflowHandle[Any], **more: Any) -> dict[str, Any]:
    return {"action": name, "_selected_action": [str(one.run_id) for one in handles], **more}


def test_the_list_asks_first_and_then_acts_on_what_is_selected(staff):
    handles = durable.start_workflows([workflows.approval.call() for _ in range(4)])
    handles[0].terminate()
    asked = staff.post(LIST, select("terminate", *handles[:3]))
    assert "are you sure" in asked.content.decode()
    assert WorkflowRun.objects.open().count() == 3
    form = {name: [v for n, v in asked.context["hidden"] if n == name] for name, _ in asked.context["hidden"]}
    done = staff.post(LIST, {**form, "reason": "wrong price"}, follow=True)
    assert "2 terminated. 1 left as they were." in done.content.decode()
    assert WorkflowRun.objects.open().get().pk == handles[3].run_id
    assert HistoryEvent.objects.filter(type="RunTerminated", data__contains="wrong price").count() == 2
    assert LogEntry.objects.count() == 2
    assert {entry.user.username for entry in LogEntry.objects.all()} == {"grace"}


def test_all_that_match_are_acted_on_however_many_are_shown(staff):
    durable.start_workflows([workflows.approval.call() for _ in range(60)])
    some = str(WorkflowRun.objects.values_list("pk", flat=True)[0])
    data = {"action": "pause", "_selected_action": [some], "select_across": "1", "index": "0"}
    asked = staff.post(LIST, data)
    assert "and 50 more" in asked.content.decode()
    staff.post(LIST, {**data, "confirmed": "yes", "reason": ""})
    assert WorkflowRun.objects.paused().count() == 60
    staff.post(LIST, {**data, "action": "resume", "confirmed": "yes", "reason": ""})
    assert WorkflowRun.objects.paused().count() == 0


@pytest.mark.parametrize("name", [name for name, one in ACTS.items() if one.many is not None])
def test_every_act_on_many_works_from_the_list(staff, handle, name):
    if name == "resume":
        handle.pause()
    if name == "retry":
        handle.terminate()
        WorkflowRun.objects.update(status="timed_out")
        HistoryEvent.objects.filter(type="RunTerminated").update(type="RunTimedOut", data="{}")
    answer = staff.post(LIST, select(name, handle, confirmed="yes", reason="because"), follow=True)
    assert f"1 {ACTS[name].done}." in answer.content.decode()
    assert LogEntry.objects.count() == 1


def test_pages_that_ask_carry_nothing_stored_that_could_harm(staff):
    handle = durable.start_workflow(workflows.approval.using(workflow_id="<script>alert(1)</script>"))
    text = staff.get(act(handle, "cancel")).content.decode()
    assert "<script>alert" not in text


def test_the_page_of_a_run_says_that_it_or_its_workflow_is_paused(staff, handle):
    durable.pause_definition("flows.approval", "stocktaking")
    handle.pause()
    text = staff.get(page(handle)).content.decode()
    assert "Messages are kept for it until somebody resumes it" in text
    assert "Workflow “flows.approval” is paused (stocktaking)" in text
