"""Server-sent events: what has changed, until the end or until time is up, taken up again where they broke off."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from django.test import AsyncClient, Client

from django_durable import durable
from django_durable.testing.environments import Environment
from tests.flows import serving
from tests.integration.api.requests import Requests
from tests.integration.worker.running import COMMITTING, DEADLINE, make_worker

__all__ = ["make_worker"]

STAFF = {"Authorization": "Bearer staff"}


def events(text: str) -> list[dict[str, str]]:
    """The events of a stream, each its fields."""
    blocks = [block for block in text.split("\n\n") if block.startswith("event: ")]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def read(client: Client, workflow_id: str, *, last: str = "") -> Any:
    headers = {"Last-Event-ID": last} if last else {}
    return client.get(f"/durable/workflows/{workflow_id}/events", {"seconds": 0}, headers={**STAFF, **headers})


def test_a_stream_says_how_a_run_is_and_what_has_changed_since(env: Environment):
    client = Client()
    handle = durable.start_workflow(serving.order.using(workflow_id="a"))
    answer = read(client, "a")
    assert answer["Content-Type"] == "text/event-stream"
    [first] = events(b"".join(answer).decode())
    assert (first["event"], json.loads(first["data"])["status"]) == ("status", "pending")
    assert events(b"".join(read(client, "a", last=first["id"])).decode()) == []
    env.run_until_idle()
    [second] = events(b"".join(read(client, "a", last=first["id"])).decode())
    assert json.loads(second["data"])["progress"]["text"] == "waiting for approval"
    handle.terminate()
    [last] = events(b"".join(read(client, "a", last=second["id"])).decode())
    assert (last["event"], json.loads(last["data"])["status"]) == ("closed", "terminated")
    assert read(client, "a", last=last["id"]).status_code == 204


def test_a_stream_hides_what_is_internal_and_the_runs_of_others(env: Environment, red: Requests, blue: Requests):
    red.start("flows.failing_order", "hidden", workflow_id="mine")
    env.run_until_idle()
    answer = red.client.get("/durable/workflows/mine/events", {"seconds": 0})
    [ended] = events(b"".join(answer).decode())
    assert ended["event"] == "closed"
    assert "hidden" not in ended["data"]
    assert blue.get("workflows/mine/events").problem == "workflow-not-found"


@COMMITTING
@pytest.mark.parametrize("served", ["wsgi", "asgi"])
def test_a_stream_follows_a_worker_to_the_end(transactional_db, make_worker, configure, settings, served):
    settings.DURABLE = {**settings.DURABLE, "TRANSPORTS": ("polling",), "POLL_SECONDS": 0.1}
    configure(STREAM_SECONDS=DEADLINE, FILTER=None)
    handle = durable.start_workflow(serving.order.using(workflow_id="a"), 2)
    handle.signal("approved", "yes")
    make_worker()
    found = events(_wsgi() if served == "wsgi" else asyncio.run(_asgi()))
    statuses = [json.loads(one["data"]) for one in found]
    assert found[-1]["event"] == "closed"
    assert statuses[-1]["result"] == {"approved": "yes", "lines": 2, "notes": []}
    assert len({one["id"] for one in found}) == len(found) >= 1


def _wsgi() -> str:
    answer: Any = Client().get("/durable/workflows/a/events", headers=STAFF)
    return b"".join(answer).decode()


async def _asgi() -> str:
    answer: Any = await AsyncClient().get("/durable/workflows/a/events", headers=STAFF)
    return b"".join([piece async for piece in answer]).decode()
