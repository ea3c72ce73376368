"""Workflows over HTTP: started once for each key, listed in pages, looked at, waited for, told things, ended."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from django_durable import durable
from django_durable.contrib.api import starting
from django_durable.models import HistoryEvent, InboxMessage, WorkflowRun
from django_durable.testing.environments import Environment
from tests.flows import serving
from tests.integration.api.requests import Answer, Requests
from tests.integration.worker.running import COMMITTING, DEADLINE, in_thread


def test_a_workflow_goes_from_start_to_result(env: Environment, red: Requests):
    started = red.start("flows.order", 2, kwargs={"customer": "Ada"}, workflow_id="order/7")
    assert (started.status, started.document["workflow_id"]) == (202, "order/7")
    assert red.client.get(started.headers["Location"]).json()["status"] == "pending"
    env.run_until_idle()
    status = red.get(red.of("order/7", "status")).document
    assert (status["status"], status["progress"]["text"]) == ("running", "waiting for approval")
    assert status["attributes"] == {"tenant": "red", "lines": 2, "customer": "Ada"}
    waited = red.get(red.of("order/7", "result"), wait=0)
    assert (waited.status, waited.document["result"]) == (202, None)
    assert red.post(red.of("order/7", "signal"), name="approved", payload="yes").status == 202
    ended = red.get(red.of("order/7", "result"))
    assert (ended.status, ended.document["status"]) == (200, "completed")
    assert ended.document["result"] == {"approved": "yes", "lines": 2, "notes": []}
    assert red.post(red.of("order/7", "signal"), name="approved", payload="no").problem == "workflow-closed"


def test_what_failed_says_so_and_goes_on_when_retried(env: Environment, red: Requests, staff: Requests):
    red.start("flows.failing_order", "hidden", workflow_id="f")
    env.run_until_idle()
    shown = red.get("workflows/f/result").document
    assert (shown["status"], shown["error_type"], shown["error_message"]) == ("failed", "OutOfStock", "out of stock")
    assert (shown["input"], shown["error_traceback"]) == (None, None)
    assert "hidden" not in str(shown)
    internal = staff.get("workflows/f/status").document
    assert internal["input"] == {"secret": "hidden"}
    assert "serving.py" in internal["error_traceback"]
    again = red.post("workflows/f/retry", reason="restocked")
    assert again.document["run_id"] != shown["run_id"]
    env.run_until_idle()
    assert red.get("workflows/f/status").document["run_id"] == again.document["run_id"]
    assert red.start(workflow_id="g").status == 202
    assert red.post("workflows/g/retry").problem == "conflict"


def test_history_is_read_in_pages_and_holds_values_for_staff_only(env: Environment, red: Requests, staff: Requests):
    red.start("flows.order", 3, workflow_id="h")
    red.post("workflows/h/signal", name="approved", payload="secret word")
    env.run_until_idle()
    seen, after = [], 0
    while after is not None:
        page = red.get("workflows/h/history", after=after, limit=4).document
        assert len(page["items"]) <= 4
        seen += page["items"]
        after = page["next_after"]
    assert [one["sequence"] for one in seen] == list(range(1, HistoryEvent.objects.count() + 1))
    assert (seen[0]["type"], seen[-1]["type"]) == ("RunStarted", "RunCompleted")
    assert not any(one["data"] for one in seen)
    assert "secret word" in str(staff.get("workflows/h/history", limit=200).document)


def test_a_list_is_read_by_its_cursor_whatever_is_started_meanwhile(env: Environment, red: Requests):
    for number in range(7):
        red.start("flows.order", number, workflow_id=f"o{number}")
    first = red.get("workflows", limit=3)
    red.start("flows.order", workflow_id="newer")
    pages = [first.document]
    while pages[-1]["next_cursor"]:
        pages.append(red.get("workflows", limit=3, cursor=pages[-1]["next_cursor"]).document)
    found = [one["workflow_id"] for page in pages for one in page["items"]]
    assert found == [f"o{number}" for number in reversed(range(7))]
    assert "result" not in pages[0]["items"][0]
    cursor = first.document["next_cursor"]
    assert red.get("workflows", cursor=cursor, name="flows.order").problem == "bad-cursor"
    assert red.get("workflows", cursor=cursor[:-2] + "xx").problem == "bad-cursor"


def test_runs_of_the_same_moment_are_each_listed_once(env: Environment, red: Requests):
    for number in range(4):
        red.start("flows.order", number)
    WorkflowRun.objects.update(created_at=env.now())
    seen, cursor = [], None
    for _ in range(4):
        page = red.get("workflows", limit=1, **({"cursor": cursor} if cursor else {})).document
        seen += [one["run_id"] for one in page["items"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert sorted(seen) == sorted(str(one) for one in WorkflowRun.objects.values_list("pk", flat=True))


def test_a_list_is_cut_down_by_filters(env: Environment, red: Requests):
    red.start("flows.order", 1, kwargs={"customer": "Ada"}, workflow_id="a")
    red.start("flows.order", 2, kwargs={"customer": "7"}, workflow_id="b")
    red.start("flows.failing_order", "x", workflow_id="c")
    env.run_until_idle()

    def found(**filters):
        answer = red.get("workflows", **filters)
        assert answer.status == 200, answer
        return [one["workflow_id"] for one in answer.document["items"]]

    assert found(name="flows.order") == ["b", "a"]
    assert found(name=["flows.order", "flows.failing_order"], status="failed") == ["c"]
    assert found(status=["failed", "running"]) == ["c", "b", "a"]
    assert found(workflow_id="a") == ["a"]
    assert found(attribute="lines:2") == ["b"]
    assert found(attribute=["lines:1", "customer:Ada"]) == ["a"]
    assert found(attribute='customer:"7"') == ["b"]
    assert found(queue="other") == []
    assert found(created_after=(env.now() + timedelta(hours=1)).isoformat()) == []
    assert found(created_before=(env.now() + timedelta(hours=1)).isoformat()) == ["c", "b", "a"]
    assert red.get("workflows", status="pending").problem == "unfit-request"
    assert red.get("workflows", attribute="lines").problem == "unfit-request"


def test_a_start_with_a_key_comes_once_even_after_its_end(env: Environment, red: Requests, blue: Requests):
    first = red.start("flows.order", 1, key="k1")
    assert first.document == red.start("flows.order", 1, key="k1").document
    red.post(red.of(first.document["workflow_id"], "terminate"))
    assert first.document == red.start("flows.order", 1, key="k1").document
    assert red.start("flows.order", 2, key="k1").problem == "key-reused"
    other = blue.start("flows.order", 1, key="k1")
    assert other.document["run_id"] != first.document["run_id"]
    assert WorkflowRun.objects.count() == 2
    named = red.start("flows.order", 1, key="k2", workflow_id="named")
    assert named.document == red.start("flows.order", 1, key="k2", workflow_id="named").document
    assert red.start("flows.order", 1, key="k3", workflow_id="named").problem == "workflow-already-started"


@COMMITTING
@pytest.mark.parametrize("workflow_id", [None, "named"])
def test_of_two_starts_at_once_with_a_key_one_starts_and_both_get_its_answer(
    red: Requests, monkeypatch: pytest.MonkeyPatch, workflow_id: str | None
):
    both = threading.Barrier(2, timeout=DEADLINE)
    go_on = starting._start

    def once_both_have_looked(*args):
        both.wait()
        return go_on(*args)

    monkeypatch.setattr(starting, "_start", once_both_have_looked)
    answers: list[Answer] = []
    threads = [in_thread(lambda: answers.append(red.start(key="k", workflow_id=workflow_id))) for _ in range(2)]
    for thread in threads:
        thread.join(DEADLINE)
    assert [answer.status for answer in answers] == [202, 202]
    run = WorkflowRun.objects.get()
    assert [answer.document for answer in answers] == [{"workflow_id": run.workflow_id, "run_id": str(run.pk)}] * 2
    assert HistoryEvent.objects.count() == 1


def test_a_start_says_what_is_wrong_with_it(env: Environment, red: Requests):
    assert red.start("flows.order", workflow_id="taken").status == 202
    assert red.start("flows.order", workflow_id="taken").problem == "workflow-already-started"
    joined = red.start("flows.order", workflow_id="taken", on_conflict="use_existing")
    assert joined.document["run_id"] == red.get("workflows/taken/status").document["run_id"]
    assert red.start("flows.nothing").problem == "unknown-workflow"
    assert red.start("flows.order", 1, 2).problem == "unfit-arguments"
    assert red.start("flows.order", "three").problem == "unfit-value"
    assert red.start("flows.order", 1, unknown=1).problem == "unfit-request"
    assert red.start("flows.order", 1, workflow_id="a\nb").problem == "unfit-request"
    assert red.start("flows.order", 1_000).document["detail"] == "An order has at most 999 lines."
    delayed = red.start("flows.order", start_delay=3_600).document["workflow_id"]
    env.run_until_idle()
    assert red.get(red.of(delayed, "status")).document["status"] == "pending"


def test_a_signal_with_a_key_arrives_once(env: Environment, red: Requests):
    red.start("flows.order", workflow_id="s")
    for _ in range(3):
        assert red.post("workflows/s/signal", key="a", name="hint", payload=1).status == 202
    assert red.post("workflows/s/signal", key="a", name="hint", payload=2).problem == "key-reused"
    assert red.post("workflows/s/signal", key="b", name="hint", payload=2).status == 202
    env.run_until_idle()
    received = HistoryEvent.objects.filter(type="SignalReceived").count()
    assert received == 2
    red.post("workflows/s/terminate")
    assert red.post("workflows/s/signal", key="a", name="hint", payload=1).status == 202
    assert red.post("workflows/s/signal", key="c", name="hint", payload=1).problem == "workflow-closed"


def test_an_update_with_a_key_is_carried_out_once(env: Environment, red: Requests, staff: Requests):
    red.start("flows.order", workflow_id="u")
    env.run_until_idle()
    first = red.post("workflows/u/update", key="k", name="note", args=["fragile"])
    assert (first.status, first.document["result"], first.document["done"]) == (200, 1, True)
    assert red.post("workflows/u/update", key="k", name="note", args=["fragile"]).document == first.document
    assert red.post("workflows/u/update", key="k", name="note", args=["heavy"]).problem == "key-reused"
    assert red.post("workflows/u/update", name="note", args=["heavy"]).document["result"] == 2
    refused = red.post("workflows/u/update", name="note", args=[""])
    assert (refused.problem, refused.document["error_message"]) == ("update-rejected", "an empty note")
    failed = red.post("workflows/u/update", name="note", args=["break"])
    assert (failed.problem, failed.document["data"]) == ("update-failed", {"code": 7})
    staff.post("workflows/u/pause")
    later = red.post("workflows/u/update", key="l", name="later", wait=0)
    assert (later.status, later.document["done"], later.document["update_id"]) == (202, False, "l")
    staff.post("workflows/u/resume")
    assert red.post("workflows/u/update", key="l", name="later").document["result"] == "at last"


def test_a_query_is_answered_within_its_limits(env: Environment, red: Requests, configure, settings):
    red.start("flows.order", workflow_id="q")
    env.run_until_idle()
    red.post("workflows/q/update", name="note", args=["fragile"])
    assert red.post("workflows/q/query", name="notes").document == {"result": ["fragile"]}
    assert red.post("workflows/q/query", name="nothing").problem == "query-failed"
    configure(QUERY_EVENTS=1)
    assert red.post("workflows/q/query", name="notes").problem == "history-too-long"
    configure(QUERY_EVENTS=100, QUERY_SECONDS=1e-9)
    slow = red.post("workflows/q/query", name="notes")
    assert (slow.status, slow.problem) == (504, "query-too-slow")
    configure(QUERY_SECONDS=60)
    settings.DURABLE = {**settings.DURABLE, "STUCK_SECONDS": 0.05}
    assert red.post("workflows/q/query", name="busy").problem == "query-too-slow"


def test_no_more_queries_are_answered_at_a_time_than_may(env: Environment, red: Requests, configure, monkeypatch):
    red.start("flows.order", workflow_id="q")
    env.run_until_idle()
    configure(QUERY_CONCURRENCY=1)
    inner = []

    def seen(*args, **kwargs):
        inner.append(red.post("workflows/q/query", name="notes"))
        return "outer"

    monkeypatch.setattr("django_durable.client.querying.query", seen)
    assert red.post("workflows/q/query", name="notes").document == {"result": "outer"}
    assert (inner[0].status, inner[0].problem, inner[0].headers["Retry-After"]) == (429, "too-many-queries", "1")
    monkeypatch.undo()
    assert red.post("workflows/q/query", name="notes").status == 200


def test_acts_say_whether_there_was_anything_to_do(env: Environment, red: Requests, staff: Requests):
    red.start("flows.order", workflow_id="x")
    env.run_until_idle()
    assert red.post("workflows/x/pause").problem == "forbidden"
    assert staff.post("workflows/x/pause", reason="stocktaking").document["done"]
    assert red.get("workflows/x/status").document["status"] == "paused"
    assert staff.post("workflows/x/resume").document["done"]
    assert not staff.post("workflows/x/resume").document["done"]
    assert red.post("workflows/x/cancel").document["done"]
    env.run_until_idle()
    assert red.get("workflows/x/result").document["status"] == "cancelled"
    assert not red.post("workflows/x/cancel").document["done"]
    red.start("flows.order", workflow_id="y")
    assert red.post("workflows/y/terminate", reason="a test").document["done"]
    assert red.get("workflows/y/status").document["error_message"] == "a test"


def test_a_start_that_replaces_ends_only_what_its_sender_sees(env: Environment, red: Requests, blue: Requests):
    mine = red.start("flows.latest_order", workflow_id="r").document["run_id"]
    assert blue.start("flows.latest_order", workflow_id="r").problem == "workflow-already-started"
    assert red.get("workflows/r/status").document["run_id"] == mine
    assert red.start("flows.latest_order", workflow_id="r").status == 202
    assert WorkflowRun.objects.get(pk=mine).status == "terminated"


def test_a_start_that_comes_to_nothing_replaces_nothing(env: Environment, red: Requests):
    mine = red.start("flows.latest_order", workflow_id="r").document["run_id"]
    assert red.start("flows.latest_order", "too much", workflow_id="r").problem == "unfit-arguments"
    assert red.get("workflows/r/status").document["run_id"] == mine
    assert WorkflowRun.objects.get().status == "running"


@pytest.mark.parametrize("verb", ["status", "result", "history"])
def test_nobody_reads_the_runs_of_others(env: Environment, red: Requests, blue: Requests, verb: str):
    red.start("flows.order", workflow_id="mine")
    assert red.get(f"workflows/mine/{verb}").status in (200, 202)
    assert blue.get(f"workflows/mine/{verb}").problem == "workflow-not-found"
    assert (
        blue.get(f"workflows/nothing/{verb}").document["detail"].replace("nothing", "mine")
        == (blue.get(f"workflows/mine/{verb}").document["detail"])
    )


MESSAGES = {"signal": {"name": "approved"}, "query": {"name": "notes"}, "update": {"name": "note"}}


@pytest.mark.parametrize("verb", ["signal", "query", "update", "cancel", "terminate", "pause", "resume", "retry"])
def test_nobody_acts_on_the_runs_of_others_or_on_what_is_not_in_the_api(
    env: Environment, red: Requests, blue: Requests, staff: Requests, verb: str
):
    red.start("flows.order", workflow_id="mine")
    durable.start_workflow(serving.secret_order.using(workflow_id="secret"))
    before = list(HistoryEvent.objects.values_list("run_id", "sequence"))
    for one, workflow_id in ((blue, "mine"), (staff, "secret")):
        answer = one.post(f"workflows/{workflow_id}/{verb}", **MESSAGES.get(verb, {}))
        assert answer.problem == ("forbidden" if one is blue and verb == "pause" else "workflow-not-found")
    assert list(HistoryEvent.objects.values_list("run_id", "sequence")) == before
    assert not InboxMessage.objects.exists()


def test_what_is_not_in_the_api_is_nowhere(env: Environment, staff: Requests):
    durable.start_workflow(serving.secret_order.using(workflow_id="secret"))
    assert staff.get("workflows").document["items"] == []
    assert staff.get("workflows", name="flows.secret_order").document["items"] == []
    assert staff.get("workflows/secret/status").problem == "workflow-not-found"
    assert staff.start("flows.secret_order").document["detail"] == staff.start("flows.nothing").document[
        "detail"
    ].replace("nothing", "secret_order")


def test_runs_of_versions_that_are_gone_are_not_shown(env: Environment, red: Requests, staff: Requests):
    red.start("flows.order", workflow_id="old")
    WorkflowRun.objects.update(version="0")
    assert red.get("workflows/old/status").problem == "workflow-not-found"
    assert staff.get("workflows").document["items"] == []
