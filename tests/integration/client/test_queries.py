"""Queries and stacks need no worker: any process replays the history, and writes nothing."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_durable import (
    NonDeterminismError,
    QueryFailed,
    UnknownDefinition,
    UnsupportedInWorkflow,
    WorkflowNotFound,
    WouldWaitForever,
    durable,
)
from django_durable.client import StackEntry
from django_durable.models import Dispatch, HistoryEvent, InboxMessage, WorkflowRun
from tests.flows import workflows
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for

GATE = "queries"


@pytest.fixture
def gate(make_gate):
    return make_gate(GATE)


@pytest.fixture
def cart():
    return durable.start_workflow(workflows.cart).using(timeout=DEADLINE)


def test_a_run_is_asked_whatever_state_it_is_in(make_worker, cart):
    assert cart.query("lines") == {}, "before any worker had it"
    worker = make_worker()
    cart.update("add", "lamp", 2)
    assert cart.query("lines") == {"lamp": 2}, "while a worker has it"
    wait_for(lambda: Dispatch.objects.filter(owner=None), "the run to be given back")
    assert durable.query_workflow(cart.workflow_id, "count", "lamp", plus=1) == 3, "while it sleeps"
    cart.update("add", "bulb")
    cart.update("check_out")
    worker.stop()
    assert worker.join(DEADLINE)
    assert cart.query("lines") == {"lamp": 2, "bulb": 1}, "when it has ended"


def test_a_terminated_run_answers_as_of_before(worker, cart):
    cart.update("add", "lamp")
    cart.terminate()
    assert cart.query("count", "lamp") == 1


def test_nothing_is_written_and_nothing_is_sent(worker, cart):
    cart.update("add", "lamp")
    wait_for(lambda: Dispatch.objects.filter(owner=None), "the run to be given back")
    worker.stop()
    assert worker.join(DEADLINE)
    before = list(HistoryEvent.objects.values()), list(Dispatch.objects.values()), list(WorkflowRun.objects.values())
    with CaptureQueriesContext(connection) as asked:
        cart.query("lines")
        cart.stack()
    assert {query["sql"].split()[0] for query in asked} == {"SELECT"}
    assert before == (
        list(HistoryEvent.objects.values()),
        list(Dispatch.objects.values()),
        list(WorkflowRun.objects.values()),
    )
    assert not InboxMessage.objects.exists()


def test_what_cannot_be_answered(worker, cart):
    with pytest.raises(QueryFailed, match="no handler for query 'gone'"):
        cart.query("gone")
    with pytest.raises(QueryFailed, match="KeyError: 'lamp'") as caught:
        cart.query("count", "lamp")
    assert caught.value.type == "KeyError"
    assert isinstance(caught.value.cause, KeyError)
    with pytest.raises(QueryFailed, match="missing a required argument: 'sku'"):
        cart.query("count")
    with pytest.raises(QueryFailed, match="too many positional arguments"):
        cart.query("lines", "lamp")
    with pytest.raises(UnsupportedInWorkflow, match="can only look"):
        cart.query("sleeps")
    with pytest.raises(WorkflowNotFound):
        durable.query_workflow("nobody", "lines")
    cart.update("check_out")
    assert_invariants(cart)


def test_a_handler_that_never_ends_is_stopped(configure, cart):
    configure(STUCK_SECONDS=0.2)
    threads = threading.active_count()
    began = time.monotonic()
    with pytest.raises(QueryFailed, match=r"ran for more than 0\.2 s at .*flows/workflows\.py:\d+") as caught:
        cart.query("hangs")
    assert time.monotonic() - began < DEADLINE
    assert caught.value.type == "WorkflowStuck"
    assert threading.active_count() == threads
    assert cart.query("lines") == {}, "nothing is left of it in this thread"


def test_a_query_inside_a_transaction_raises_at_once(cart):
    with transaction.atomic(), pytest.raises(WouldWaitForever):
        cart.query("lines")


def test_a_process_without_the_code_says_so(cart):
    WorkflowRun.objects.update(version="2")
    with pytest.raises(UnknownDefinition, match="version '2'"):
        cart.query("lines")
    WorkflowRun.objects.update(version="", name="flows.gone")
    with pytest.raises(UnknownDefinition):
        cart.query("lines")


def test_a_blocked_run_tells_where_its_code_and_its_history_part(worker, cart):
    cart.update(workflows.rename("x"))
    wait_for(lambda: Dispatch.objects.filter(owner=None), "the run to be given back")
    scheduled = HistoryEvent.objects.get(type="ActivityScheduled")
    HistoryEvent.objects.filter(pk=scheduled.pk).update(data=scheduled.data.replace("flows.repeat", "flows.other"))
    with pytest.raises(NonDeterminismError) as caught:
        cart.query("lines")
    assert caught.value.event == scheduled.sequence
    with pytest.raises(NonDeterminismError):
        cart.stack()


def test_the_stack_tells_where_a_run_waits(worker, cart, gate):
    cart.using(update_id="slow", wait="accepted").update("at_gate", GATE)
    entries = {entry.task: entry for entry in cart.stack()}
    gate.set()
    body, handler = entries["flows.cart"], entries["update 'at_gate' slow"]
    assert (body.function, body.waits_for) == ("cart", "asyncio Event.wait")
    assert handler.waits_for == "activity flows.wait_for_gate"
    assert handler.function == "cart.<locals>.at_gate"
    assert handler.file == body.file == workflows.__file__
    assert 0 < handler.line < body.line
    with pytest.raises(dataclasses.FrozenInstanceError):
        body.line = 1
    assert isinstance(body, StackEntry)
    cart.update("check_out")
    cart.result(timeout=DEADLINE)
    assert cart.stack() == []


def test_the_async_twins(worker, cart):
    async def ask():
        await cart.aupdate("add", "lamp")
        return (
            await cart.aquery("lines"),
            await durable.aquery_workflow(cart.workflow_id, "count", "lamp"),
            [entry.task for entry in await cart.astack()],
        )

    assert async_to_sync(ask)() == ({"lamp": 1}, 1, ["flows.cart"])


def test_many_ask_at_once(worker, cart):
    cart.update("add", "lamp")
    answers: list[object] = []

    def ask():
        answers.append([cart.query("count", "lamp") for _ in range(10)])
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert answers == [[1] * 10] * 4
