"""Workflows that live on nothing but invocations of functions."""

from __future__ import annotations

import random
import signal
import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, connection

from django_durable import Debounce, Rate, Schedule, durable, transports
from django_durable.models import ActivityTask, Dispatch, Worker, WorkflowRun
from django_durable.store import leases
from tests.flows import functions, workflows
from tests.flows.models import Entry
from tests.integration.serverless import platform as platforms
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import in_thread, wait_for


def all_closed():
    return not WorkflowRun.objects.filter(open_workflow_id__isnull=False).exists()


def closed(handle):
    return lambda: handle.status().closed_at is not None


def workers_left():
    """Workers, and what belongs to any."""
    chains, tasks = Dispatch.objects.filter(owner__isnull=False), ActivityTask.objects.filter(worker__gt=0)
    return [*Worker.objects.all(), *chains, *tasks]


def threads_left():
    return [one.name for one in threading.enumerate() if one.name.startswith(("durable-", "django-durable-"))]


@pytest.mark.slow
@pytest.mark.sqlite
def test_a_workflow_with_a_timer_and_a_retry_lives_on_fresh_processes(platform):
    platform.invoke = platforms.in_a_fresh_process
    handle = durable.start_workflow(functions.parcel, "a", 2.0, stumbles=True)
    platform.run_until(closed(handle))
    assert handle.result(timeout=0) == ["a/0", "a/1", "a/2", "a", "a/3", "a/4"]
    assert Entry.objects.filter(kind="stumble").count() == 2
    processes = set(Entry.objects.values_list("worker", flat=True))
    assert 2 < len(processes) <= platform.invocations  # one may come when the work is done, or too early
    assert_invariants(handle)
    assert workers_left() == []


@pytest.mark.slow
def test_a_hundred_workflows_finish_on_messages_that_all_come_twice_and_in_any_order(platform):
    handles = durable.start_workflows([functions.parcel.call(f"run{number}", 2.0) for number in range(100)])
    platform.run_until(all_closed, repeat=2, chance=random.Random(1))
    assert {handle.status().status for handle in handles} == {"completed"}
    assert Entry.objects.filter(kind="parcel").count() == 500
    assert_all_invariants(handles)
    assert (workers_left(), threads_left()) == ([], [])


def test_an_invocation_leaves_nothing_behind(platform):
    handle = durable.start_workflow(workflows.effects, "a", 2)
    assert platform.handle(platform.receive()) == []
    assert connection.connection is None
    assert handle.status().status == "completed"
    assert (workers_left(), threads_left()) == ([], [])


def test_what_no_hint_tells_of_is_found_by_the_tick(platform):
    handle = durable.start_workflow(workflows.effects, "a", 2)
    platform.settle()
    platform.sqs.empty("tests")
    answer = platform.tick()
    assert (answer["finished"], answer["left"], answer["next_due"], answer["activities"]) == (True, [], None, 2)
    assert handle.status().status == "completed"
    assert (workers_left(), threads_left()) == ([], [])


@pytest.mark.slow
def test_a_function_that_is_killed_is_found_out_by_the_tick(platform, configure):
    configure(LEASE_SECONDS=1.0)
    handle = durable.start_workflow(functions.last_words, "a")
    event = platform.receive()
    with pytest.raises(platforms.InvocationDied) as died:
        platforms.in_a_fresh_process("messages", event)
    assert died.value.args[0] == -signal.SIGKILL
    assert Dispatch.objects.get().owner is not None
    wait_for(lambda: leases.anybody_expired(by=0), "its lease to end")
    assert platform.tick()["finished"]
    platform.run_until(closed(handle))
    assert handle.result(timeout=0) == "a"
    assert Entry.objects.filter(kind="die").count() == 2
    assert_invariants(handle)
    assert [one.dead for one in workers_left()] == [True]  # kept for a day, to be seen


def test_a_function_that_runs_out_of_time_hands_everything_back_at_once(platform):
    handles = [durable.start_workflow(functions.shift, f"run{number}", 60.0) for number in range(3)]
    event = platform.receive()
    failed = platform.handle(event, seconds=5.0)
    assert failed == [record["messageId"] for record in event["Records"]]
    assert (workers_left(), threads_left()) == ([], [])
    received = {one["messageId"]: one["attributes"]["ApproximateReceiveCount"] for one in platform.receive()["Records"]}
    assert {received[one] for one in failed} == {"2"}
    for handle in handles:
        handle.terminate()


def test_a_function_that_has_no_room_for_everything_calls_others(platform, configure):
    configure(CONCURRENCY=1)
    handles = durable.start_workflows([functions.shift.call(f"run{number}", 60.0) for number in range(2)])
    event = platform.receive()
    function = in_thread(lambda: platform.handle(event, seconds=8.0))
    wait_for(lambda: platform.sqs.waiting(platform.url), "a call for help")
    assert Worker.objects.get().stopping is False
    function.join()
    for handle in handles:
        handle.terminate()


def test_a_function_that_has_no_time_does_not_begin(platform):
    durable.start_workflow(workflows.echo, "x")
    event = platform.receive()
    assert len(platform.handle(event, seconds=0.5)) == len(platform.receive()["Records"]) == 1
    assert Dispatch.objects.get().epoch == 0


def test_messages_that_are_none_of_ours_fail_alone(platform):
    for body in ("hello", "[1]", "{}", '{"durable": 1}', '{"durable": 1, "worker": 3}'):
        platform.sqs.client.send_message(QueueUrl=platform.url, MessageBody=body)
    handle = durable.start_workflow(workflows.echo, "x")
    event = platform.receive()
    bodies = {record["messageId"]: record["body"] for record in event["Records"]}
    failed = platform.handle(event)
    assert [bodies[one] for one in failed] == ["hello", "[1]", "{}", '{"durable": 1}']
    assert handle.result(timeout=0) == "x"


def test_without_a_database_all_messages_are_kept(platform, monkeypatch):
    def register(*args, **kwargs):
        raise OperationalError("nobody there")

    handle = durable.start_workflow(workflows.echo, "x")
    event = platform.receive()
    with monkeypatch.context() as patch:
        patch.setattr(leases, "register", register)
        assert platform.handle(event, seconds=4.5) == [record["messageId"] for record in event["Records"]]
    assert platform.handle(event) == []
    assert handle.result(timeout=0) == "x"


def test_a_schedule_is_ticked(platform):
    durable.create_schedule("often", Schedule(every=timedelta(days=1)), workflows.echo, "x").trigger()
    platform.tick()
    assert WorkflowRun.objects.get(schedule="often").status == "completed"


@pytest.mark.parametrize(
    "options",
    [{"start_delay": timedelta(seconds=1)}, {"debounce": Debounce(key="a", wait=timedelta(seconds=1))}],
    ids=["delay", "debounce"],
)
def test_a_start_that_waits_needs_no_tick(platform, options):
    handle = durable.start_workflow(workflows.echo.using(**options), "x")
    platform.run_until(closed(handle))
    assert handle.result(timeout=0) == "x"


def test_a_timer_beyond_the_longest_delay_is_left_to_the_tick(platform):
    durable.start_workflow(workflows.approval, 3_600.0)
    assert platform.handle(platform.receive()) == []
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"]
    counts = platform.sqs.client.get_queue_attributes(QueueUrl=platform.url, AttributeNames=names)["Attributes"]
    assert [counts[name] for name in names] == ["0", "0"]


def test_a_rate_keeps_no_function_and_a_message_comes_when_it_lets_more_in(platform):
    durable.set_queue("default", counts="workflows", rate=Rate(1, per=timedelta(minutes=10)))
    handles = [durable.start_workflow(workflows.echo, number) for number in range(3)]
    while (event := platform.receive())["Records"]:
        assert platform.handle(event) == []
    assert sorted(handle.status().status for handle in handles) == ["completed", "pending", "pending"]
    names = ["ApproximateNumberOfMessagesDelayed"]
    counts = platform.sqs.client.get_queue_attributes(QueueUrl=platform.url, AttributeNames=names)["Attributes"]
    assert int(counts[names[0]]) >= 1


def test_what_a_rate_lets_in_later_needs_no_tick(platform):
    durable.set_queue("default", counts="workflows", rate=Rate(1, per=timedelta(seconds=3)))
    handles = [durable.start_workflow(workflows.echo, number) for number in range(3)]
    platform.run_until(lambda: all(closed(handle)() for handle in handles))
    assert [handle.result(timeout=0) for handle in handles] == [0, 1, 2]


def test_a_hint_about_schedules_may_share_the_queue(platform, configure, settings):
    chosen = settings.DURABLE["TRANSPORTS"]["hints"]
    options = {**chosen["OPTIONS"], "QUEUES": {transports.SCHEDULES: platform.url}}
    configure(TRANSPORTS={"hints": {**chosen, "OPTIONS": options}})
    durable.create_schedule("often", Schedule(every=timedelta(days=1)), workflows.echo, "x").trigger()
    platform.run_until(lambda: WorkflowRun.objects.filter(schedule="often", status="completed").exists())
