"""Amazon's queues, as moto plays them: what is in them, who makes and empties them, and what is lost without them."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from django_durable import durable, transports
from django_durable.store import leases
from django_durable.transports.sqs import SqsTransport
from django_durable.transports.sqs_account import LONGEST_DELAY
from tests.flows import workflows
from tests.integration.transports import ways
from tests.integration.transports.ears import listening, wait_until_deaf, wait_until_hears
from tests.integration.worker.invariants import assert_all_invariants
from tests.integration.worker.running import DEADLINE, wait_for

NEVER = 3_600.0

pytestmark = [
    pytest.mark.parametrize("way", [pytest.param(ways.Sqs, id="sqs")], indirect=True),
    pytest.mark.sqlite,
]


@pytest.fixture
def change(way, configure):
    """Other options for the transport: ``change(FIFO=True)``."""

    def change(**options: Any) -> None:
        chosen = way.transports["hints"]
        configure(TRANSPORTS={"hints": {**chosen, "OPTIONS": {**chosen["OPTIONS"], **options}}})

    return change


def sent() -> Any:
    """The transport, once it has sent all its hints."""
    [transport] = transports.all()
    assert isinstance(transport, SqsTransport)
    assert transport._sender.wait_until_sent(DEADLINE)
    return transport


def received(sqs, url, **options):
    answer = sqs.client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, **options)
    return answer.get("Messages", [])


def effects(count):
    return [durable.start_workflow(workflows.effects, f"run{number}", 2) for number in range(count)]


def finish(handles):
    for handle in handles:
        handle.result(timeout=DEADLINE)
    assert_all_invariants(handles)


def register(name):
    return leases.register(name, queues=("default",), definitions=(), concurrency=1, release="")


def test_a_message_holds_who_is_to_look_and_nothing_else(way, sqs):
    url = sqs.make("tests-default")
    durable.start_workflow(workflows.echo, "a secret")
    sent()
    assert [json.loads(one["Body"]) for one in received(sqs, url)] == [{"durable": 1, "queue": "default"}]


def test_more_than_a_call_can_take_is_sent(way, sqs, change):
    url = sqs.make("everything")
    change(QUEUES={f"queue{number}": url for number in range(25)})
    for number in range(25):
        transports.hint_work(f"queue{number}")
    sent()
    bodies = [json.loads(one["Body"])["queue"] for _ in range(3) for one in received(sqs, url)]
    assert sorted(bodies) == sorted(f"queue{number}" for number in range(25))


def test_a_hint_for_later_is_kept_back_for_as_long_as_sqs_can(way, sqs):
    url = sqs.make("tests-default")
    transports.hint_later("default", LONGEST_DELAY + 1)
    transports.hint_later("default", LONGEST_DELAY)
    sent()
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"]
    counts = sqs.client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    assert [int(counts[name]) for name in names] == [0, 1]


def test_a_hint_for_later_arrives(way, sqs):
    url = sqs.make("tests-default")
    transports.hint_later("default", 0.3)
    sent()
    assert received(sqs, url, WaitTimeSeconds=20)


def test_equal_hints_in_a_fifo_queue_are_all_delivered_and_none_waits_for_another(way, sqs, change):
    url = sqs.make("tests-default.fifo", FifoQueue="true", ContentBasedDeduplication="true")
    change(FIFO=True)
    for _ in range(3):
        transports.hint_work("default")
        sent()
    found = [one for _ in range(3) for one in received(sqs, url)]  # none is deleted in between
    assert len(found) == 3


def test_a_fifo_queue_wakes_workers(way, change, make_worker, configure):
    change(FIFO=True)
    configure(POLL_SECONDS=NEVER)
    wait_until_hears(make_worker())
    finish(effects(2))


def test_a_fifo_queue_is_given_no_delays(way, sqs, change):
    url = sqs.make("tests-default.fifo", FifoQueue="true")
    change(FIFO=True)
    transports.hint_later("default", 5.0)
    sent()
    assert received(sqs, url) == []


def test_the_queue_of_a_worker_lasts_as_long_as_it_listens(way, sqs):
    with listening("default", worker=7):
        assert [url.rpartition("/")[2] for url in sqs.urls("tests_")] == ["tests_worker_7"]
    assert sqs.urls("tests_") == []


def test_queues_of_dead_workers_are_deleted_and_no_others(way, sqs):
    dead, alive, unknown = register("dead"), register("alive"), 10**9
    leases.retire(dead)
    for worker in (dead, alive, unknown):
        sqs.make(f"tests_worker_{worker}")
    sqs.make("tests_worker_x")
    with listening("default", worker=register("new")):
        pass
    left = {url.rpartition("/")[2] for url in sqs.urls("tests_")}
    assert left == {f"tests_worker_{alive}", f"tests_worker_{unknown}", "tests_worker_x"}


def test_a_hint_that_nobody_can_hear_is_no_failure(way, caplog):
    transports.hint_work("default")
    transports.hint_message(3)
    sent()
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


def test_a_queue_that_refuses_its_hints_holds_up_no_other(way, sqs, change):
    url = sqs.make("tests-default")
    long_name = "b" * 1_100
    change(QUEUES={long_name: sqs.make("a-narrow-one", MaximumMessageSize="1024")})
    transports.hint_work(long_name)
    transports.hint_work("default")
    assert received(sqs, url, WaitTimeSeconds=20)


def test_a_project_may_make_its_queues_itself(way, sqs, change, make_worker, configure):
    sqs.make("shop-hints")
    change(QUEUES={"default": "shop-hints"}, CREATE_QUEUES=False)
    configure(POLL_SECONDS=NEVER)
    wait_until_hears(make_worker())
    finish(effects(2))
    assert [url.rpartition("/")[2] for url in sqs.urls()] == ["shop-hints"]


def test_without_its_queue_a_worker_polls_and_says_what_is_missing(way, change, make_worker, configure, caplog):
    change(CREATE_QUEUES=False)
    configure(POLL_SECONDS=None)
    worker = make_worker()
    finish(effects(2))
    wait_for(lambda: "there is no queue 'tests-default'" in caplog.text, "the warning")
    assert not worker._listeners[0].hears


@pytest.mark.slow
def test_a_server_that_has_lost_everything_gets_its_queues_again(way, sqs, make_worker, configure):
    configure(POLL_SECONDS=NEVER)
    worker = make_worker()
    wait_until_hears(worker)
    [transport] = transports.all()
    transport.check()
    sqs.kill()
    with pytest.raises(EndpointConnectionError):
        transport.check()
    wait_until_deaf(worker)
    sqs.start()
    wait_until_hears(worker)
    finish(effects(2))


def test_a_process_that_rests_keeps_no_thread_and_sends_again_later(way, sqs):
    url = sqs.make("tests-default")
    transports.hint_work("default")
    transports.rest(DEADLINE)
    transport: Any = transports.all()[0]
    assert (transport._sender._thread, transport.account._clients) == (None, {})
    assert len(received(sqs, url)) == 1
    transports.hint_work("default")
    sent()
    assert len(received(sqs, url)) == 1
