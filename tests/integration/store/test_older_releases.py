"""Statements of the first release, which knows none of the later columns, on today's tables."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from django_durable.client.handle import WorkflowHandle
from django_durable.history import codec, events
from django_durable.payloads import payload
from django_durable.release import PYTHON
from django_durable.store import clock, database, identifiers
from django_durable.testing.plugin import durable_env
from tests.flows import activities, workflows
from tests.flows.models import Entry

__all__ = ["durable_env"]

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor == "mysql", reason="the first release did not run on MariaDB"),
]

RUN = (
    "INSERT INTO durable_workflowrun (id, chain_id, workflow_id, open_workflow_id, name, version, fingerprint, queue, "
    "priority, status, input, created_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
DISPATCH = (
    "INSERT INTO durable_dispatch (chain_id, run_id, queue, priority, definition, wakeup_at, epoch, closing, "
    "recoveries) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
EVENT = "INSERT INTO durable_historyevent (run_id, sequence, type, schema, time, data) VALUES (%s, %s, %s, %s, %s, %s)"
MESSAGE = "INSERT INTO durable_inboxmessage (chain_id, data, created_at) VALUES (%s, %s, %s)"
TASK = (
    "INSERT INTO durable_activitytask (chain_id, key, run_id, scheduled, workflow_id, name, queue, priority, input, "
    "options, attempt, interruptions, due_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)


def execute(sql: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def start(definition, *args) -> WorkflowHandle[Any]:
    """As the first release did it."""
    run_id = identifiers.uuid7()
    key, now = database.key_of(run_id), clock.adapt(clock.read())
    input = definition.encode_input(args, {})
    started = f'{{"input":{payload.dump(input)},"seed":7,"python":"{PYTHON}"}}'
    name = definition.name
    execute(RUN, key, key, str(run_id), str(run_id), name, "", "old", "default", 0, "running", payload.dump(input), now)
    execute(DISPATCH, key, key, "default", 0, name, now, 0, False, 0)
    execute(EVENT, key, 1, "RunStarted", 1, now, started)
    return WorkflowHandle(str(run_id), run_id, definition)


def test_a_run_that_the_first_release_started_goes_on_today(durable_env):
    handle = start(workflows.effects, "a", 4)
    assert handle.status().status == "pending"
    assert handle.result() == ["a/0", "a/1", "a/2", "a/3"]


def test_a_signal_that_the_first_release_sent_arrives(durable_env):
    handle = start(workflows.approval, 60.0)
    durable_env.run_until_idle()
    now = clock.adapt(clock.read())
    execute(
        MESSAGE, database.key_of(handle.run_id), '{"type":"signal","name":"approved","payload":["json","ada"]}', now
    )
    assert handle.result() == "ada"


def test_an_activity_that_the_first_release_spilled_is_executed(durable_env):
    handle = start(workflows.call, "flows.elsewhere", ["k"])
    run, now = database.key_of(handle.run_id), clock.adapt(clock.read())
    input = activities.elsewhere.encode_input(("k",), {})
    key = f"{handle.run_id.hex}-2"
    scheduled = events.ActivityScheduled(name="flows.elsewhere", input=input, key=key, queue="elsewhere")
    execute(EVENT, run, 2, "ActivityScheduled", 1, now, codec.encode(scheduled).decode())
    workflow_id, name = str(handle.run_id), "flows.elsewhere"
    execute(TASK, run, key, run, 2, workflow_id, name, "elsewhere", 0, payload.dump(input), "", 0, 0, now)
    assert handle.result() == "k"
    assert Entry.objects.filter(kind="elsewhere").count() == 1
