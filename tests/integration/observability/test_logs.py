"""Log records say whose they are; failures are logged once, and Sentry gets one event for each."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

from django_durable import WorkflowFailed, durable
from django_durable.contrib import sentry
from django_durable.log_context import FIELDS, ContextFilter
from django_durable.worker import logs
from tests.flows import speaking, workflows
from tests.integration.worker.running import DEADLINE, wait_for

PLAIN = set(vars(logging.makeLogRecord({})))


class JsonFormatter(logging.Formatter):
    """What JSON formatters do: everything that a record has beyond the usual."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in PLAIN}
        return json.dumps({"logger": record.name, "level": record.levelname, "message": record.getMessage(), **extra})


@pytest.fixture
def lines() -> Iterator[Any]:
    """Everything that is logged, as a JSON formatter prints it."""
    printed: list[str] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            printed.append(self.format(record))

    handler = Collecting()
    handler.setFormatter(JsonFormatter())
    handler.addFilter(ContextFilter())
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lambda logger: [line for line in map(json.loads, printed) if line["logger"] == logger]
    root.removeHandler(handler)
    root.setLevel(before)


def test_records_of_workflows_activities_and_the_worker_say_whose_they_are(worker, lines):
    handle = durable.start_workflow(speaking.speaks.using(workflow_id="order-7"), "hello")
    handle.result(timeout=DEADLINE)
    whose = {"workflow_id": "order-7", "run_id": str(handle.run_id), "queue": "default"}
    [said] = lines("django_durable.workflow")
    assert said.items() >= {**whose, "workflow": "flows.speaks", "message": "hello"}.items()
    first, second = lines("tests.flows")
    assert first.items() >= {**whose, "activity": "flows.speaks_up", "attempt": 1, "message": "hello"}.items()
    assert second["attempt"] == 2
    [warning] = lines("django_durable.activity")
    assert warning["level"] == "WARNING"
    assert warning.items() >= {**whose, "activity": "flows.speaks_up", "attempt": 1}.items()


def test_a_format_that_names_all_fields_can_be_used_for_every_record():
    record, whose = logging.makeLogRecord({"workflow_id": "order-7"}), {"workflow_id": "order-7"}
    assert ContextFilter(missing="-").filter(record)
    assert {field: getattr(record, field) for field in FIELDS} == {**dict.fromkeys(FIELDS, "-"), **whose}


@pytest.fixture
def _told_events() -> Iterator[None]:
    """As ``durable_worker`` does it."""
    logs.configure(verbosity=1)
    yield
    for event, receiver in logs.RECEIVERS:
        event.disconnect(dispatch_uid=f"durable.logs.{receiver.__name__}")


@pytest.mark.usefixtures("_told_events")
def test_a_failure_is_an_error_once_and_a_warning_while_it_is_retried(worker, lines):
    with pytest.raises(WorkflowFailed):
        durable.start_workflow(workflows.call, "flows.fail_always", ["no"]).result(timeout=DEADLINE)
    told = [line["level"] for line in lines("django_durable.activity")]
    assert told == ["WARNING"] * (len(told) - 1) + ["ERROR"]
    assert len(told) > 1
    assert not [line for line in lines("django_durable.worker") if line["level"] == "ERROR"]


@pytest.mark.usefixtures("_told_events")
def test_a_workflow_that_fails_by_itself_is_an_error_too(worker, lines):
    with pytest.raises(WorkflowFailed):
        durable.start_workflow(workflows.fail.using(workflow_id="order-9"), "on purpose").result(timeout=DEADLINE)
    [line] = wait_for(
        lambda: [line for line in lines("django_durable.worker") if line["level"] == "ERROR"], "an error to be told"
    )
    assert line["message"].startswith("Workflow flows.fail has failed with ")
    assert (line["workflow"], line["workflow_id"]) == ("flows.fail", "order-9")


def test_a_timeout_is_told_like_a_failure(make_worker, make_gate, lines):
    gate = make_gate("slow")
    make_worker()
    durable.start_workflow(workflows.catch, "flows.always_too_slow", ["slow"]).result(timeout=DEADLINE)
    gate.set()
    assert [line["level"] for line in lines("django_durable.activity")] == ["WARNING", "ERROR"]


def test_what_a_process_of_its_own_has_told_is_not_told_again(worker, lines):
    assert durable.start_workflow(workflows.call, "flows.succeed_at", [2]).result(timeout=DEADLINE) == 2
    assert lines("django_durable.activity") == []


class Collected(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        event = envelope.get_event()
        if event is not None:
            self.events.append(event)


@pytest.fixture
def collected() -> Iterator[Collected]:
    transport = Collected()
    sentry_sdk.init(
        dsn="https://key@sentry.invalid/1",
        transport=transport,
        default_integrations=False,
        integrations=[LoggingIntegration()],
        before_send=sentry.before_send,
    )
    yield transport
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


def test_sentry_gets_one_event_with_the_tags_of_the_workflow(worker, collected):
    for workflow_id in ("order-1", "order-2"):
        run = durable.start_workflow(workflows.catch.using(workflow_id=workflow_id), "flows.fail_always", ["no"])
        run.result(timeout=DEADLINE)
    first, second = wait_for(lambda: len(collected.events) == 2 and collected.events, "the events")
    assert (first["level"], first["logger"]) == ("error", "django_durable.activity")
    attempt = first["tags"].pop("attempt")
    assert int(attempt) > 1
    assert first["tags"] == {
        "workflow_id": "order-1",
        "run_id": first["extra"]["run_id"],
        "activity": "flows.fail_always",
        "queue": "default",
    }
    assert second["tags"]["workflow_id"] == "order-2"
    assert first["logentry"]["message"] == second["logentry"]["message"]  # by which, and by the stack, they are grouped
    assert "order-1" not in str(first["logentry"])
    assert [error["type"] for error in first["exception"]["values"]] == ["KeyError", "ValueError"]


def test_what_an_activity_captures_by_itself_is_tagged_too(worker, collected):
    durable.start_workflow(workflows.call.using(workflow_id="order-3"), "flows.captures", []).result(timeout=DEADLINE)
    [event] = collected.events
    assert event["tags"]["workflow_id"] == "order-3"
    assert event["tags"]["activity"] == "flows.captures"
