"""The client speaks the API: the same operations, the same shapes, and what it gets is what is there."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.test import override_settings

from django_durable import Schedule, durable
from django_durable.contrib.api.application import api
from django_durable.contrib.api.client import DurableClient, ProblemError, models
from django_durable.models import HistoryEvent, WorkflowRun
from django_durable.store import leases
from django_durable.testing.environments import Environment
from tests.flows import serving
from tests.integration.api.conftest import API

BASE = "http://testserver/durable"
LOST = "x-lost"
LATER = datetime(2100, 1, 1, tzinfo=UTC)


class Losing(httpx.BaseTransport):
    """Delivers requests, and loses every second answer."""

    def __init__(self) -> None:
        self._inner = httpx.WSGITransport(app=get_wsgi_application())
        self.sent = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += 1
        answer = self._inner.handle_request(request)
        if self.sent % 2:
            raise httpx.ReadError("the connection broke off", request=request)
        return answer


def client_of(who: str, transport: httpx.BaseTransport | None = None) -> DurableClient:
    transport = transport or httpx.WSGITransport(app=get_wsgi_application())
    headers = {"Authorization": f"Bearer {who}"}
    return DurableClient(http=httpx.Client(base_url=BASE, transport=transport, headers=headers))


@pytest.fixture(autouse=True)
def _keep_the_connection() -> Iterator[None]:
    """As Django's own test client does: requests are made inside the test's transaction."""
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    yield
    request_started.connect(close_old_connections)
    request_finished.connect(close_old_connections)


@pytest.fixture
def client(env: Environment) -> Iterator[DurableClient]:
    with client_of("staff") as one:
        yield one


@pytest.fixture
def schema() -> Any:
    with override_settings(DURABLE={"API": API}):
        return api.get_openapi_schema(path_prefix="/")


def test_every_operation_has_a_method_that_takes_what_it_takes(schema):
    for operations in schema["paths"].values():
        for operation in operations.values():
            method = getattr(DurableClient, operation["operationId"])
            taken = set(inspect.signature(method).parameters) - {"self"}
            wanted = {one["name"].replace("-", "_").lower() for one in operation["parameters"]} - {"last_event_id"}
            if "requestBody" in operation:
                (content,) = operation["requestBody"]["content"].values()
                wanted |= set(
                    schema["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]["properties"]
                )
            assert taken == wanted, operation["operationId"]


def test_every_answer_has_a_type_with_the_same_members(schema):
    kinds = {one.__name__: one for one in vars(models).values() if isinstance(one, type(msgspec.Struct))}
    for name, kind in kinds.items():
        described = schema["components"]["schemas"][name]
        fields = {one.name: one for one in msgspec.structs.fields(kind)}
        assert set(fields) == set(described["properties"]), name
        assert {one.name for one in fields.values() if one.required} <= set(described.get("required", ())), name
    asked = {"Filters", "Paging", *(name for name in schema["components"]["schemas"] if name.endswith("Request"))}
    assert set(schema["components"]["schemas"]) - asked - {"Problem", "FieldError", "Status"} == set(kinds)


def test_a_workflow_from_start_to_result(env: Environment, client: DurableClient):
    run = client.start_workflow("flows.order", [2], {"customer": "Ada"}, workflow_id="a/b c")
    assert client.get_status("a/b c").status == "pending"
    env.run_until_idle()
    assert client.update_workflow("a/b c", "note", ["fragile"]).result == 1
    assert client.query_workflow("a/b c", "notes") == ["fragile"]
    assert client.signal_workflow("a/b c", "approved", "yes") == run
    ended = client.wait_for_result("a/b c", timeout=10)
    assert ended.result == {"approved": "yes", "lines": 2, "notes": ["fragile"]}
    assert (ended.is_closed, ended.progress) == (True, models.Progress(text="packing", done=2, total=2))
    page = client.get_history("a/b c", limit=200)
    assert [one.sequence for one in page.items] == list(range(1, HistoryEvent.objects.count() + 1))
    assert page.items[0].data
    with pytest.raises(ProblemError, match="workflow-closed") as raised:
        client.signal_workflow("a/b c", "approved")
    assert (raised.value.status, raised.value.code) == (409, "workflow-closed")


def test_acts_and_lists(env: Environment, client: DurableClient):
    for number in range(5):
        client.start_workflow("flows.order", workflow_id=f"o{number}")
    env.run_until_idle()
    assert client.pause_workflow("o0", "stocktaking").done
    assert client.resume_workflow("o0").done
    assert client.cancel_workflow("o0").done
    assert client.terminate_workflow("o1").done
    env.run_until_idle()
    assert sorted(one.workflow_id for one in client.iterate_workflows(limit=2)) == ["o0", "o1", "o2", "o3", "o4"]
    ended = client.list_workflows(status=["cancelled", "terminated"]).items
    assert sorted(one.workflow_id for one in ended) == ["o0", "o1"]
    client.start_workflow("flows.failing_order", ["ill"], workflow_id="f")
    env.run_until_idle()
    assert client.retry_workflow("f").run_id != client.list_workflows(workflow_id="f").items[-1].run_id


def test_operations(env: Environment, client: DurableClient):
    durable.create_schedule("nightly/1", Schedule(cron="0 3 * * *"), serving.order)
    assert [one.name for one in client.list_schedules().items] == ["nightly/1"]
    assert client.pause_schedule("nightly/1", "stocktaking").note == "stocktaking"
    assert not client.resume_schedule("nightly/1").paused
    assert len(client.trigger_schedule("nightly/1").upcoming) == 5
    assert client.get_schedule("nightly/1").workflow == "flows.order"
    made = client.create_schedule("hourly", "flows.order", [2], every_seconds=3_600, max_runs=5, end_at=LATER)
    assert (made.every_seconds, made.max_runs, made.end_at, made.overlap) == (3_600, 5, LATER, "skip")
    changed = client.update_schedule("hourly", cron="0 3 * * *", end_at=None, overlap="allow_all")
    assert (changed.cron, changed.every_seconds, changed.end_at) == ("0 3 * * *", None, None)
    assert (changed.max_runs, changed.overlap) == (5, "allow_all")
    assert client.backfill_schedule("hourly", LATER, LATER + timedelta(days=1)).ticks == 1
    assert client.delete_schedule("hourly").name == "hourly"
    assert client.list_queues().items
    leases.register("host:1", queues=["default"], definitions=[], concurrency=4, release="1")
    assert client.list_workers().items[0].name == "host:1"
    assert client.get_health().status == "ok"


def test_lost_answers_start_nothing_twice(env: Environment):
    transport = Losing()
    with client_of("staff", transport) as client:
        run = client.start_workflow("flows.order")
        client.signal_workflow(run.workflow_id, "approved", "yes")
        assert client.get_status(run.workflow_id).run_id == run.run_id
    assert transport.sent == 6
    env.run_until_idle()
    assert WorkflowRun.objects.count() == 1
    assert HistoryEvent.objects.filter(type="SignalReceived").count() == 1


def test_a_stream_is_taken_up_again_until_the_end(env: Environment, client: DurableClient):
    client.start_workflow("flows.order", [1], workflow_id="s")
    stream = client.stream_events("s", seconds=0)
    seen = [next(stream).status]
    env.run_until_idle()
    seen.append(next(stream).status)
    client.signal_workflow("s", "approved", "yes")
    env.run_until_idle()
    last = list(stream)
    assert (seen, [one.status for one in last]) == (["pending", "running"], ["completed"])
    assert last[0].result == {"approved": "yes", "lines": 1, "notes": []}
    assert [one.status for one in client.stream_events("s")] == ["completed"]
