"""Activities in processes of their own: real interpreters, real kills."""

from __future__ import annotations

import hashlib
import os
import signal

import pytest
from django.utils import translation

from django_durable import durable
from django_durable.client import tokens
from django_durable.worker import interpreters
from tests.flows import computing
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for

PLACES = pytest.mark.parametrize("priority", [0, 1], ids=["local", "spilled"])


@pytest.fixture(autouse=True)
def _two(configure):
    configure(PROCESS_CONCURRENCY=2)


def called(name, *args, priority=0, at_most_once=False, cancellation="try", **seconds):
    return durable.start_workflow(
        computing.computes, f"flows.{name}", list(args), seconds, priority, at_most_once, cancellation
    )


def result(name, *args, **options):
    handle = called(name, *args, **options)
    value = handle.result(timeout=DEADLINE)
    assert_invariants(handle)
    return value


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@PLACES
def test_it_runs_in_a_process_of_its_own_that_is_kept(make_worker, configure, priority):
    configure(PROCESS_CONCURRENCY=1)
    make_worker()
    own, parent = result("where", priority=priority)
    assert (own == os.getpid(), parent) == (False, os.getpid())
    assert result("where", priority=priority) == [own, parent]
    assert result("add_up", [1, 2, 3], priority=priority) == 6


def test_it_knows_itself_and_what_surrounded_the_start(worker):
    with translation.override("de"), durable.actor(7):
        handle = called("know_yourself", "k")
    name, workflow_id, run_id, key, *rest = handle.result(timeout=DEADLINE)
    assert (name, workflow_id, run_id) == ("flows.know_yourself", handle.workflow_id, str(handle.run_id))
    assert (key, rest) == (f"{handle.run_id.hex}-2", [1, "de", 7])
    assert Entry.objects.get(kind="process").attempt == 1  # in this test's database


@PLACES
def test_what_it_raises_is_tried_again_as_its_policy_says(worker, priority):
    assert result("succeed_at", 3, priority=priority) == 3
    failure = result("succeed_at", 4, priority=priority)
    assert (failure["type"], failure["message"], failure["attempts"]) == ("ValueError", "attempt 3", 3)


def test_its_heartbeats_reach_the_next_attempt_when_its_process_crashes(worker):
    assert result("count_on", 8) == [4, 8]


@PLACES
def test_an_attempt_that_takes_too_long_is_killed(worker, priority):
    assert result("where")  # its process has started: that may take longer than the activity is given
    failure = result("spin", "k", priority=priority, start_to_close=2.0, schedule_to_close=60)
    assert (failure["timeout"], failure["attempts"]) == ("start_to_close", 3)
    pids = [int(entry.worker) for entry in Entry.objects.filter(kind="spins")]
    assert pids
    wait_for(lambda: not any(map(is_alive, pids)), "the processes to end")
    wait_for(lambda: worker._slots.taken() == 0, "the slots to be free")
    assert worker._slots.lost == 0
    assert result("where")[1] == os.getpid()  # another process has taken its place


@PLACES
def test_an_activity_that_is_given_up_is_killed(worker, priority):
    handle = called("spin", "k", priority=priority)
    spinning = wait_for(lambda: Entry.objects.filter(kind="spins").first(), "it to begin")
    handle.signal("enough")
    wait_for(lambda: not is_alive(int(spinning.worker)), "the process to end")
    assert handle.result(timeout=DEADLINE) == "given up"
    assert Entry.objects.filter(kind="spins").count() == 1


@PLACES
def test_a_workflow_that_waits_for_the_end_of_what_it_has_cancelled_hears_of_it(worker, priority):
    handle = called("spin", "k", priority=priority, cancellation="wait")
    spinning = wait_for(lambda: Entry.objects.filter(kind="spins").first(), "it to begin")
    handle.signal("enough")
    assert handle.result(timeout=DEADLINE) == "given up"
    assert not is_alive(int(spinning.worker))
    assert_invariants(handle)


@PLACES
def test_its_result_may_come_by_token(worker, priority):
    handle = called("hand_over", "k", priority=priority)
    given = wait_for(lambda: Entry.objects.filter(kind="token").first(), "the token")
    token = tokens.make(handle.run_id, f"{handle.run_id.hex}-2")
    assert given.key == hashlib.sha256(token.encode()).hexdigest()
    durable.complete_activity(token, "by token")
    assert handle.result(timeout=DEADLINE) == "by token"
    assert_invariants(handle)


@pytest.mark.sqlite
def test_a_process_that_is_killed_by_others_costs_one_attempt(worker):
    handle = called("spin", "k")
    first = wait_for(lambda: Entry.objects.filter(kind="spins", attempt=1).first(), "it to begin")
    os.kill(int(first.worker), signal.SIGKILL)
    wait_for(lambda: Entry.objects.filter(kind="spins", attempt=2), "the second attempt")
    handle.terminate()
    wait_for(lambda: worker._slots.taken() == 0, "its end")


@pytest.mark.sqlite
def test_a_crash_says_what_has_happened(worker):
    failure = result("crash")
    assert (failure["type"], failure["attempts"]) == ("ProcessDied", 3)
    assert "exit code 11" in failure["message"]
    assert Entry.objects.filter(kind="crash").count() == 3


def test_at_most_once_is_not_tried_again_after_a_crash(worker):
    failure = result("crash", at_most_once=True)
    assert (failure["interrupted"], failure["type"]) == (True, "ProcessDied")
    assert Entry.objects.filter(kind="crash").count() == 1


def test_it_learns_that_its_worker_stops(make_worker):
    worker = make_worker()
    handle = called("wait_for_the_end")
    wait_for(lambda: Entry.objects.filter(kind="waits"), "it to begin")
    worker.stop()
    assert worker.join(DEADLINE)
    make_worker()
    assert handle.result(timeout=DEADLINE) == "stopping"
    assert Entry.objects.filter(kind="waits").count() == 1


@pytest.mark.sqlite
def test_more_of_them_than_processes_wait_their_turn(worker):
    handles = [called("add_up", [number]) for number in range(6)]
    assert [handle.result(timeout=DEADLINE) for handle in handles] == list(range(6))


def test_settings_without_a_module_are_told(worker, monkeypatch):
    monkeypatch.setattr(interpreters, "settings", object())
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    failure = result("where")
    assert failure["type"] == "DurableError"
    assert "settings module" in failure["message"]
