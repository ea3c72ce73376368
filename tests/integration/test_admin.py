"""The admin's pages: who may see them, what they say, and that nothing stored can harm them."""

from __future__ import annotations

import html
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from django_durable.admin import changelist, excerpts, pages, times
from django_durable.history.status import Status
from django_durable.models import Worker, WorkflowRun
from django_durable.store import attributes
from example_project.shop.models import Order
from tests import factories

pytestmark = pytest.mark.django_db

LIST = reverse("admin:durable_workflowrun_changelist")
WORKERS = reverse("admin:durable_worker_changelist")
SCRIPT = "<script>alert('x')</script>\"'&"
INLINE = re.compile(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", re.IGNORECASE)


def page_of(run: WorkflowRun) -> str:
    return reverse("admin:durable_workflowrun_change", args=[run.pk])


def text_of(client: Client, address: str, **query: Any) -> str:
    response = client.get(address, query)
    assert response.status_code == 200, response
    return response.content.decode()


def listed(client: Client, **query: Any) -> set[str]:
    """The workflow ids that the list shows."""
    response = client.get(LIST, query)
    assert response.status_code == 200, response
    return {run.workflow_id for run in response.context["cl"].result_list}


def states(text: str) -> list[str]:
    return re.findall(r'class="durable-badge durable-(\w+)"', text)


def staff(*permissions: str) -> Client:
    """A client of somebody who has these permissions alone."""
    user = User.objects.create_user("grace", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions, content_type__app_label="durable"))
    client = Client()
    client.force_login(user)
    return client


# Who may see what


@pytest.mark.parametrize("address", [LIST, WORKERS])
def test_staff_without_the_view_permission_are_refused(address):
    assert staff().get(address).status_code == 403


def test_a_run_is_refused_without_the_view_permission():
    assert staff("view_worker").get(page_of(factories.WorkflowRunFactory.create())).status_code == 403


def test_the_view_permission_is_enough_for_both_pages():
    client = staff("view_workflowrun")
    run = factories.WorkflowRunFactory.create()
    assert client.get(LIST).status_code == client.get(page_of(run)).status_code == 200


def test_strangers_are_sent_to_the_login(client):
    response = client.get(page_of(factories.WorkflowRunFactory.create()))
    assert response.status_code == 302
    assert "/login/" in response["Location"]


@pytest.mark.parametrize("model", ["workflowrun", "worker"])
def test_not_even_a_superuser_can_add_change_or_delete(admin_client, model):
    row = factories.WorkflowRunFactory.create() if model == "workflowrun" else factories.WorkerFactory.create()
    change, delete = (reverse(f"admin:durable_{model}_{verb}", args=[row.pk]) for verb in ("change", "delete"))
    assert admin_client.get(reverse(f"admin:durable_{model}_add")).status_code == 403
    assert admin_client.post(change, {"name": "other"}).status_code == 403
    assert admin_client.post(delete, {"post": "yes"}).status_code == 403
    action = {"action": "delete_selected", "_selected_action": str(row.pk), "post": "yes"}
    admin_client.post(reverse(f"admin:durable_{model}_changelist"), action)
    row.refresh_from_db()
    assert row.name != "other"


@pytest.fixture
def elsewhere(settings, monkeypatch, django_db_blocker) -> Iterator[BaseDatabaseWrapper]:
    """A second alias of the test database, which the settings name as ours."""
    monkeypatch.setitem(connections.settings, "elsewhere", connections.settings["default"])
    settings.DURABLE = {"DATABASE": "elsewhere"}
    with django_db_blocker.unblock():  # the test's own guard does not know this alias
        yield connections["elsewhere"]
    connections["elsewhere"].close()
    del connections["elsewhere"]


@pytest.mark.django_db(transaction=True)
def test_everything_is_read_from_the_database_of_the_settings(admin_client, elsewhere):
    run = factories.WorkflowRunFactory.create()
    factories.DispatchFactory.create(run=run, owner=factories.WorkerFactory.create().pk)
    factories.ActivityTaskFactory.create(run=run)
    with CaptureQueriesContext(connection) as default, CaptureQueriesContext(elsewhere) as ours:
        for address in (LIST, page_of(run), WORKERS):
            text_of(admin_client, address)
    assert not [query["sql"] for query in default.captured_queries if '"durable_' in query["sql"]]
    assert len(ours.captured_queries) >= 10


# The list


def test_the_list_costs_the_same_for_five_rows_and_for_fifty(
    admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries
):
    # session, user, queues of the workers, count, rows
    for already, wanted in ((0, 5), (5, 50)):
        for _ in range(wanted - already):
            factories.DispatchFactory.create()
        with django_assert_num_queries(5):
            assert len(listed(admin_client)) == wanted


def test_the_list_reads_no_payloads(admin_client, django_assert_num_queries):
    factories.WorkflowRunFactory.create(input='["json","canary"]')
    with django_assert_num_queries(5) as queries:
        assert "canary" not in text_of(admin_client, LIST)
    assert not any('"input"' in query["sql"] for query in queries.captured_queries)


def test_counting_stops_at_a_limit_and_the_page_says_so(admin_client, monkeypatch):
    factories.WorkflowRunFactory.create_batch(4)
    assert "counting stops" not in text_of(admin_client, LIST)
    monkeypatch.setattr(changelist, "COUNT_LIMIT", 3)
    assert "counting stops at 3" in text_of(admin_client, LIST)


def test_an_open_run_is_pending_until_its_first_claim(admin_client):
    factories.DispatchFactory.create(run=factories.WorkflowRunFactory.create(workflow_id="waits"), epoch=0)
    factories.DispatchFactory.create(run=factories.WorkflowRunFactory.create(workflow_id="runs"), epoch=1)
    factories.WorkflowRunFactory.create(workflow_id="fell", status=Status.FAILED)
    assert sorted(states(text_of(admin_client, LIST))) == ["failed", "pending", "running"]
    assert listed(admin_client, status="pending") == {"waits"}
    assert listed(admin_client, status="running") == {"runs"}
    assert listed(admin_client, status="failed") == {"fell"}


def test_the_list_filters_by_name_queue_and_time(admin_client):
    old = datetime.now(UTC) - timedelta(days=400)
    factories.WorkflowRunFactory.create(workflow_id="a", name="shop.a")
    factories.WorkflowRunFactory.create(workflow_id="b", queue="reports")
    factories.WorkflowRunFactory.create(workflow_id="c", created_at=old)
    factories.WorkerFactory.create(queues="default\nreports")
    assert listed(admin_client, name="shop.a") == {"a"}
    assert listed(admin_client, queue="reports") == {"b"}
    assert listed(admin_client, created_at__lt=old + timedelta(days=1)) == {"c"}
    assert "?queue=reports" in text_of(admin_client, LIST)


def test_the_list_is_searched_by_ids_and_name(admin_client):
    run = factories.WorkflowRunFactory.create(workflow_id="order-77")
    factories.WorkflowRunFactory.create(workflow_id="invoice-1", name="shop.bill")
    itself = str(uuid.uuid4())
    factories.WorkflowRunFactory.create(workflow_id=itself)
    assert listed(admin_client, q="r-77") == {"order-77"}
    assert listed(admin_client, q="BILL") == {"invoice-1"}
    assert listed(admin_client, q=str(run.pk)) == {"order-77"}
    assert listed(admin_client, q=itself) == {itself}
    assert listed(admin_client, q=str(uuid.uuid4())) == set()


@pytest.mark.parametrize("query", ["?status=nonsense", "?queue=%00", "?created_at__gte=soon"])
def test_a_filter_that_makes_no_sense_is_dropped(admin_client, query):
    assert admin_client.get(LIST + query)["Location"].endswith("?e=1")


def test_payloads_cannot_be_guessed_through_the_address(admin_client):
    factories.WorkflowRunFactory.create()
    assert admin_client.get(LIST, {"input__contains": "order"}).status_code == 400
    assert listed(admin_client, workflow_id="order-none") == set()


def test_the_list_tells_how_long_a_run_took(admin_client):
    begin = datetime.now(UTC) - timedelta(hours=3)
    factories.WorkflowRunFactory.create(
        status=Status.COMPLETED, created_at=begin, started_at=begin, closed_at=begin + timedelta(seconds=200)
    )
    text = text_of(admin_client, LIST)
    assert '<td class="field-duration">3 min 20 s</td>' in text
    assert ">3 h</time>" in text


# A run's page


def test_a_page_shows_input_result_and_history(admin_client):
    run = factories.WorkflowRunFactory.create(
        status=Status.COMPLETED,
        version="v7",
        input='["json",{"z":1.50,"a":"é"}]',
        result='["json","receipt-5"]',
        closed_at=datetime.now(UTC),
    )
    factories.HistoryEventFactory.create(run=run)
    factories.HistoryEventFactory.create(
        run=run, sequence=2, type="ActivityScheduled", data='{"name":"shop.pack","input":["json",[9]],"key":"k-1"}'
    )
    factories.HistoryEventFactory.create(
        run=run, sequence=3, type="ActivityCompleted", data='{"activity":2,"result":["json","parcel-9"],"attempts":2}'
    )
    factories.HistoryEventFactory.create(run=run, sequence=4, type="TimerStarted", data='{"duration":90000000}')
    text = html.unescape(text_of(admin_client, page_of(run)))
    assert states(text) == ["completed"]
    assert '{"z": 1.50, "a": "é"}' in text  # as stored: order of keys, digits of numbers
    for part in (str(run.pk), "version v7", "receipt-5", "shop.pack", "[9]", "k-1", "parcel-9", "1 min 30 s"):
        assert part in text
    assert '<a href="#event-2">of event 2</a>' in text
    assert 'id="event-4"' in text


def test_a_failed_run_shows_its_error_and_its_causes(admin_client):
    failure = (
        '{"type":"ActivityError","message":"no luck","traceback":"Traceback: outer",'
        '"cause":{"type":"KeyError","message":"inner","traceback":"Traceback: deep"},"data":{"code":51}}'
    )
    run = factories.WorkflowRunFactory.create(status=Status.FAILED, failure=failure)
    text = html.unescape(text_of(admin_client, page_of(run)))
    for part in (
        "ActivityError",
        "no luck",
        "Traceback: outer",
        "KeyError",
        "inner",
        "Traceback: deep",
        '{"code": 51}',
    ):
        assert part in text


def test_a_blocked_run_says_where_history_and_code_part(admin_client):
    blocked = (
        '{"reason":"nondeterminism","message":"They differ.","event":17,"recorded":"activity shop.a",'
        '"requested":"activity shop.b","where":"shop/workflows.py:12","since":"2026-01-01T00:00:00+00:00","times":3}'
    )
    run = factories.WorkflowRunFactory.create(status=Status.BLOCKED, blocked=blocked)
    factories.DispatchFactory.create(
        run=run, epoch=2, hold="blocked", wakeup_at=datetime.now(UTC) + timedelta(minutes=9)
    )
    text = html.unescape(text_of(admin_client, page_of(run)))
    for part in ("They differ.", "17", "activity shop.a", "activity shop.b", "shop/workflows.py:12"):
        assert part in text
    assert "It is held as blocked." in text


def test_a_page_says_what_an_open_run_waits_for(admin_client):
    def waiting(**fields: Any) -> str:
        row = factories.DispatchFactory.create(**fields)
        return html.unescape(text_of(admin_client, page_of(WorkflowRun.objects.get(pk=row.run_id))))

    worker = factories.WorkerFactory.create(name="box:1")
    assert "sleeps until a message comes" in waiting(wakeup_at=None)
    assert "has been due for" in waiting()
    assert "It is held as paused." in waiting(hold="paused", wakeup_at=None)
    assert ", in 1 h 59 min" in waiting(wakeup_at=datetime.now(UTC) + timedelta(hours=2, seconds=-1))
    assert f"Worker box:1 #{worker.pk} has it" in waiting(owner=worker.pk, epoch=1)
    assert "Worker #99999 had it and is dead" in waiting(owner=99_999, epoch=1)
    assert "died before it made progress: 3" in waiting(recoveries=3)


def test_a_page_warns_when_nobody_can_take_the_run(admin_client):
    def warnings() -> list[str]:
        return re.findall('<p class="durable-warning">(.*?)</p>', text_of(admin_client, page_of(run)))

    run = factories.WorkflowRunFactory.create(queue="reports")
    factories.DispatchFactory.create(run=run)
    factories.WorkerFactory.create(queues="default")
    factories.WorkerFactory.create(queues="reports", dead=True)
    assert "No live worker serves queue “reports”." in warnings()[0]
    other = factories.WorkerFactory.create(queues="default\nreports", definitions="shop.other")
    assert "has the code of “shop.process_order”" in warnings()[0]
    Worker.objects.filter(pk=other.pk).update(definitions="shop.other\nshop.process_order")
    assert warnings() == []


def test_a_page_lists_activities_under_way_and_counts_the_inbox(admin_client):
    run = factories.WorkflowRunFactory.create()
    factories.DispatchFactory.create(run=run, epoch=1)
    worker = factories.WorkerFactory.create(name="box:2")
    factories.ActivityTaskFactory.create(run=run, name="shop.on_it", worker=worker.pk, attempt=1)
    factories.ActivityTaskFactory.create(
        run=run,
        name="shop.again",
        attempt=4,
        due_at=datetime.now(UTC) + timedelta(minutes=5, seconds=30),
        failure='{"type":"ConnectionError","message":"gateway away"}',
    )
    factories.ActivityTaskFactory.create(name="shop.of_another_run")
    factories.InboxMessageFactory.create_batch(3, chain_id=run.chain_id)
    text = html.unescape(text_of(admin_client, page_of(run)))
    for part in ("shop.on_it", f"on worker box:2 #{worker.pk}", "shop.again", "due in 5 min", "gateway away"):
        assert part in text
    assert "shop.of_another_run" not in text
    assert "not yet in the history: 3." in text


def test_a_long_history_comes_in_pages(admin_client, monkeypatch):
    monkeypatch.setattr(pages, "EVENTS", 10)
    run = factories.WorkflowRunFactory.create()
    for sequence in range(1, 36):
        factories.HistoryEventFactory.create(run=run, sequence=sequence)

    def shown(**query: Any) -> tuple[list[int], dict[str, str]]:
        text = text_of(admin_client, page_of(run), **query)
        links = {name: place for place, name in re.findall(r'<a href="\?after=(\d+)#history"[^>]*>(\w+)</a>', text)}
        return [int(number) for number in re.findall(r'id="event-(\d+)"', text)], links

    assert shown() == (list(range(1, 11)), {"Next": "10", "Last": "30"})
    assert shown(after=10) == (list(range(11, 21)), {"First": "0", "Previous": "0", "Next": "20", "Last": "30"})
    assert shown(after=30) == (list(range(31, 36)), {"First": "0", "Previous": "20"})
    assert shown(after=999_999_999)[0] == list(range(31, 36))
    for nonsense in ("-1", "x", "", "9" * 40, "²"):
        assert shown(after=nonsense)[0] == list(range(1, 11))


def test_a_page_links_parent_children_and_the_runs_of_the_chain(admin_client):
    parent = factories.WorkflowRunFactory.create(workflow_id="mother")
    first = factories.WorkflowRunFactory.create(
        workflow_id="son",
        status=Status.CONTINUED_AS_NEW,
        parent_chain_id=parent.pk,
        parent_run_id=parent.pk,
        parent_key="k",
    )
    second = factories.WorkflowRunFactory.create(workflow_id="son", chain_id=first.pk, continued_from=first.pk)
    page = admin_client.get(page_of(parent)).content.decode()
    assert f'href="{page_of(first)}"' in page
    page = admin_client.get(page_of(first)).content.decode()
    assert f'href="{page_of(parent)}">mother</a>' in page
    assert f'href="{page_of(second)}">running</a>' in page
    assert "this one" in page
    assert "Runs of the chain" not in admin_client.get(page_of(parent)).content.decode()


def test_a_page_costs_the_same_for_five_events_and_for_fifty(admin_client, django_assert_num_queries):
    run = factories.WorkflowRunFactory.create()
    factories.DispatchFactory.create(run=run)
    # session, user, run, dispatch, tasks, workers, inbox, parents and children (2), attributes, last sequence, events
    for first, last in ((1, 5), (6, 50)):
        for sequence in range(first, last + 1):
            factories.HistoryEventFactory.create(run=run, sequence=sequence)
        with django_assert_num_queries(12):
            text_of(admin_client, page_of(run))


def test_a_large_payload_is_cut(admin_client):
    run = factories.WorkflowRunFactory.create(input='["json","' + "i" * 200_000 + '"]')
    factories.HistoryEventFactory.create(
        run=run, type="SideEffectRecorded", data='{"value":["json","' + "v" * 300_000 + '"]}'
    )
    text = text_of(admin_client, page_of(run))
    assert len(text) < 150_000
    assert f"the first {excerpts.LIMIT} of 200002 characters" in text
    assert f"the first {pages.EVENT_DATA} of 300021 characters" in text


@pytest.mark.parametrize(
    ("kind", "schema", "data"),
    [
        ("FromTheFuture", 1, '{"new":"field-7"}'),
        ("RunStarted", 99, '{"new":"field-7"}'),
        ("RunStarted", 0, "damaged field-7"),
        ("RunStarted", 1, '{"input":"field-7"}'),
        ("ActivityCompleted", 1, '{"activity":"field-7"'),
        ("SideEffectRecorded", 1, '{"value":["json",' + "[" * 5_000 + '"field-7"' + "]" * 5_000 + "]}"),
    ],
)
def test_an_event_that_cannot_be_read_is_shown_as_it_is(admin_client, kind, schema, data):
    run = factories.WorkflowRunFactory.create()
    factories.HistoryEventFactory.create(run=run, type=kind, schema=schema, data=data)
    text = text_of(admin_client, page_of(run))
    assert kind in text
    assert "field-7" in text


def test_damaged_columns_are_shown_as_they_are(admin_client):
    run = factories.WorkflowRunFactory.create(
        status=Status.BLOCKED, input="in{", result='{"a":"re"}', failure="fail{", blocked="block{"
    )
    text = html.unescape(text_of(admin_client, page_of(run)))
    for part in ("in{", '{"a":"re"}', "fail{", "block{"):
        assert part in text


@pytest.mark.parametrize("key", ["nonsense", "01a21a66-2ce6-7aac-90d7-b08abcb75865", "a'b", "1/2"])
def test_a_run_that_is_not_there_leads_back_with_a_message(admin_client, key):
    response = admin_client.get(reverse("admin:durable_workflowrun_change", args=[quote(key)]), follow=True)
    assert response.status_code == 200
    assert "exist" in html.unescape(response.content.decode())


# Nothing stored can harm a page


@pytest.fixture
def hostile() -> WorkflowRun:
    """A run that is hostile in whatever of it is text."""
    quoted = SCRIPT.replace('"', '\\"')
    cause = f'{{"type":"{quoted}","message":"{quoted}","traceback":"{quoted}","data":"{quoted}"}}'
    failure = f'{cause[:-1]},"cause":{cause}}}'
    run: WorkflowRun = factories.WorkflowRunFactory.create(
        workflow_id=f"a/b\nc?&{SCRIPT}",
        name=SCRIPT,
        version=SCRIPT,
        queue=SCRIPT,
        status="<script>x",
        input=f'["json","{quoted}"]',
        result=SCRIPT,
        failure=failure,
        blocked=f'{{"reason":"{quoted}","message":"{quoted}","recorded":"{quoted}","where":"{quoted}"}}',
    )
    worker = factories.WorkerFactory.create(name=SCRIPT, queues=SCRIPT, release=SCRIPT)
    factories.ActivityTaskFactory.create(run=run, name=SCRIPT, queue=SCRIPT, failure=failure, worker=worker.pk)
    for sequence, (kind, data) in enumerate(
        [
            (SCRIPT[:40], SCRIPT),
            ("SignalReceived", f'{{"name":"{quoted}","payload":["json","{quoted}"]}}'),
            ("ActivityFailed", f'{{"activity":1,"failure":{failure},"timeout":"{quoted}"}}'),
            ("RunCompleted", f'{{"result":["{quoted}","x"],"unhandled":["{quoted}"]}}'),
        ],
        start=1,
    ):
        factories.HistoryEventFactory.create(run=run, sequence=sequence, type=kind, data=data)
    return run


@pytest.mark.parametrize("status", ["<script>x", Status.RUNNING])
@pytest.mark.parametrize("owned", [True, False])
def test_hostile_text_is_only_text(admin_client, hostile, status, owned):
    WorkflowRun.objects.filter(pk=hostile.pk).update(status=status)
    owner = Worker.objects.get().pk if owned else None
    factories.DispatchFactory.create(run=hostile, hold="<script>x", owner=owner, epoch=1)
    for address in (LIST, page_of(hostile), WORKERS, f"{LIST}?queue=<script>x&name=<script>x&q=<script>x"):
        text = text_of(admin_client, address)
        assert not re.search(r"<script>", text), address
        assert INLINE.search(html_tags(text)) is None, address
        assert "&lt;script&gt;" in text, address


def html_tags(text: str) -> str:
    """The tags of a page without what stands between them, which may quote anything."""
    return " ".join(re.findall(r"<[^>]*>", text))


def test_the_link_to_other_runs_survives_any_workflow_id(admin_client, hostile):
    factories.WorkflowRunFactory.create()
    text = text_of(admin_client, page_of(hostile))
    link = re.search(r'<a href="([^"]*)">All runs', text)
    assert link is not None
    response = admin_client.get(html.unescape(link[1]))
    assert [run.pk for run in response.context["cl"].result_list] == [hostile.pk]


# Workers


def test_workers_are_listed_with_their_state(admin_client):
    now = datetime.now(UTC)
    factories.WorkerFactory.create(
        name="a", queues="default\nreports", heartbeat_at=now - timedelta(minutes=2, seconds=1)
    )
    factories.WorkerFactory.create(name="b", stopping=True)
    factories.WorkerFactory.create(name="c", dead=True)
    factories.WorkerFactory.create(name="d", expires_at=now - timedelta(seconds=1))
    text = text_of(admin_client, WORKERS)
    assert sorted(states(text)) == ["alive", "dead", "late", "stopping"]
    assert "default, reports" in text
    assert "2 min 1 s</time> ago" in text
    assert listed_workers(admin_client, dead__exact=1) == {"c"}


def listed_workers(client: Client, **query: Any) -> set[str]:
    return {worker.name for worker in client.get(WORKERS, query).context["cl"].result_list}


# Times


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 ms"),
        (0.0034, "3 ms"),
        (4.25, "4.2 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (7_200, "2 h"),
        (90_061, "1 d 1 h"),
        (86_401, "1 d"),
    ],
)
def test_durations_read_in_their_two_largest_units(seconds, text):
    assert times.duration(timedelta(seconds=seconds)) == text


def test_a_page_shows_what_the_run_is_about_and_what_it_does(admin_client):
    order = Order.objects.create(customer="Ada", item="lamp", cents=1)
    run = factories.WorkflowRunFactory.create(
        subject_type="shop.order", subject_id=str(order.pk), progress='{"text":"<b>packing</b>","done":1,"total":3}'
    )
    attributes.write([(run.pk, {"customer": 7, "<i>": SCRIPT})])
    text = text_of(admin_client, page_of(run))
    assert f'<a href="{reverse("admin:shop_order_change", args=[order.pk])}">shop.order {order.pk}</a>' in text
    assert "&lt;b&gt;packing&lt;/b&gt;" in text
    assert "1 of 3" in text
    assert "<dt>customer</dt><dd>7</dd>" in text
    assert html.escape(SCRIPT) in text
    assert SCRIPT not in text


@pytest.mark.parametrize("label", ["shop.nothing", "nowhere.order", "flows.entry", "nonsense"])
def test_a_subject_without_a_page_is_only_named(admin_client, label):
    run = factories.WorkflowRunFactory.create(subject_type=label, subject_id="7")
    assert f"<dd>{label} 7</dd>" in text_of(admin_client, page_of(run))


def test_rows_of_a_scope_are_grouped_and_labels_are_shown(admin_client):
    run = factories.WorkflowRunFactory.create(label="the <b>first</b> order")
    told = (
        ("TimerStarted", '{"duration":1000000,"scope":"payment/<i>retry</i>","label":"cooling & waiting"}'),
        ("TimerStarted", '{"duration":1000000}'),
        ("TimerFired", '{"timer":1}'),
        ("TimerFired", '{"timer":2}'),
    )
    for sequence, (kind, data) in enumerate(told, start=1):
        factories.HistoryEventFactory.create(run=run, sequence=sequence, type=kind, data=data)
    text = text_of(admin_client, page_of(run))
    assert text.count('class="durable-scope"') == 2
    assert text.count("durable-scoped") == 2
    assert "payment/&lt;i&gt;retry&lt;/i&gt;" in text
    assert "cooling &amp; waiting" in text
    assert "the &lt;b&gt;first&lt;/b&gt; order" in text
