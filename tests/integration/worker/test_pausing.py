"""Runs that rest: messages and results wait for them, their time limits run on, and they go on where they were."""

from __future__ import annotations

import io
from datetime import timedelta
from functools import partial

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from django_durable import WorkflowNotFound, WorkflowTimedOut, client, durable
from django_durable.models import ActivityTask, Dispatch, InboxMessage, WorkflowRun
from django_durable.store import clock
from django_durable.testing import assert_replays
from django_durable.worker import maintenance
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.deaths import give_to, past_worker
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for

pytestmark = pytest.mark.parametrize("cache", [0, 1_000], ids=["no cache", "cache"])


@pytest.fixture(autouse=True)
def _cache(configure, cache):
    configure(INSTANCE_CACHE_SIZE=cache)


def has_heard(handle, kind, times):
    return kinds(handle).count(kind) == times


def rests(handle):
    return Dispatch.objects.filter(pk=handle.run_id, owner=None, wakeup_at=None).exists()


def asleep(handle):
    wait_for(lambda: Dispatch.objects.filter(pk=handle.run_id, owner=None, epoch__gt=0), "the run to wait")


def paused(handle):
    """The run is paused and with nobody."""
    wait_for(lambda: Dispatch.objects.filter(pk=handle.run_id, owner=None, hold="paused"), "the run to be given back")
    assert handle.status().status == "paused"


def looks(worker, count=10):
    """Let the worker look at the database some more times."""
    wait_for(lambda: worker.engine, "the worker to begin")
    before = worker.engine.progress
    wait_for(lambda: worker.engine.progress >= before + count, "the worker to look")


def kinds(handle):
    return [entry.type for entry in handle.history()]


def test_a_paused_run_keeps_its_signals_and_takes_them_in_order_once_it_is_resumed(worker):
    handle = durable.start_workflow(workflows.until_told)
    asleep(handle)
    assert handle.pause("stocktaking")
    for word in ("one", "two", "stop"):
        handle.signal(workflows.approved(word))
    paused(handle)
    looks(worker)
    assert kinds(handle) == ["RunStarted", "RunPaused"]
    assert InboxMessage.objects.count() == 3
    assert handle.resume()
    assert handle.result(timeout=DEADLINE) == 2
    assert kinds(handle)[:4] == ["RunStarted", "RunPaused", "RunResumed", "SignalReceived"]
    assert_invariants(handle)


def test_a_pause_stands_in_the_history_and_the_code_does_not_see_it(worker):
    handle = durable.start_workflow(workflows.amended)
    wait_for(lambda: kinds(handle).count("ActivityCompleted") == 2, "both steps")
    wait_for(partial(rests, handle), "the run to wait for its signal")
    before = kinds(handle)
    for reason in ("stocktaking", "again"):
        pairs = kinds(handle).count("RunResumed")
        handle.pause(reason)
        wait_for(partial(has_heard, handle, "RunPaused", pairs + 1), "the pause")
        handle.resume()
        wait_for(partial(has_heard, handle, "RunResumed", pairs + 1), "the resumption")
        wait_for(partial(rests, handle), "the run to wait for its signal again")
    assert kinds(handle) == [*before, "RunPaused", "RunResumed", "RunPaused", "RunResumed"]
    assert [e.data for e in handle.history() if e.type == "RunPaused"] == [
        {"reason": "stocktaking"},
        {"reason": "again"},
    ]
    handle.signal(workflows.approved("ok"))
    assert handle.result(timeout=DEADLINE) == ["one", "two", "ok"]
    assert_invariants(handle)


def test_what_runs_ends_and_its_result_waits(worker, make_gate):
    gate = make_gate("busy")
    handle = durable.start_workflow(workflows.wait_at_gate, "busy", 2)
    wait_for(lambda: worker._slots.taken(), "the activity to begin")
    assert handle.pause()
    paused(handle)
    gate.set()
    wait_for(lambda: not ActivityTask.objects.exists(), "the activity to end")
    looks(worker)
    assert "ActivityCompleted" not in kinds(handle)
    assert handle.status().status == "paused"
    assert not Entry.objects.exists()
    assert handle.resume()
    assert handle.result(timeout=DEADLINE) == "busy"
    assert Entry.objects.count() == 2
    assert_invariants(handle)


def test_a_run_in_the_middle_of_many_steps_is_paused_and_nothing_is_done_twice(worker):
    handle = durable.start_workflow(workflows.effects, "much", 60, 0.05)
    wait_for(lambda: Entry.objects.count() > 5, "some steps")
    handle.pause()
    paused(handle)
    wait_for(lambda: not ActivityTask.objects.exists(), "what runs to end")
    looks(worker)
    done = Entry.objects.count()
    looks(worker)
    assert Entry.objects.count() == done < 60
    handle.resume()
    assert len(handle.result(timeout=DEADLINE)) == 60
    assert Entry.objects.count() == 60
    assert_invariants(handle)


def test_a_timer_that_falls_due_meanwhile_fires_when_the_run_is_resumed(worker):
    handle = durable.start_workflow(workflows.nap, 3.0)
    asleep(handle)
    due = clock.read() + timedelta(seconds=3)  # at the latest
    handle.pause()
    wait_for(lambda: clock.read() > due, "the timer to fall due")
    looks(worker)
    assert "TimerFired" not in kinds(handle)
    handle.resume()
    assert handle.result(timeout=DEADLINE) == "rested"
    assert_invariants(handle)


def test_the_time_limit_of_a_paused_run_goes_on(worker):
    handle = durable.start_workflow(workflows.approval.using(run_timeout=timedelta(seconds=1)))
    asleep(handle)
    handle.pause()
    with pytest.raises(WorkflowTimedOut):
        handle.result(timeout=DEADLINE)
    assert_invariants(handle)


def test_a_run_that_is_paused_before_it_began_begins_when_it_is_resumed(make_worker):
    handle = durable.start_workflow(workflows.echo, 1)
    delayed = durable.start_workflow(workflows.echo.using(start_delay=timedelta(seconds=0.5)), 2)
    assert handle.pause()
    assert delayed.pause()
    worker = make_worker()
    looks(worker, 30)
    assert (handle.status().status, delayed.status().status) == ("paused", "paused")
    assert kinds(handle) == kinds(delayed) == ["RunStarted", "RunPaused"]
    assert handle.resume()
    assert delayed.resume()
    assert (handle.result(timeout=DEADLINE), delayed.result(timeout=DEADLINE)) == (1, 2)
    assert kinds(handle) == kinds(delayed) == ["RunStarted", "RunPaused", "RunResumed", "RunCompleted"]
    for one in (handle, delayed):
        assert_replays(one)
        assert_invariants(one)


def test_a_paused_run_can_be_terminated_and_is_cancelled_once_it_goes_on(worker):
    ended, asked = durable.start_workflow(workflows.approval), durable.start_workflow(workflows.approval)
    for handle in (ended, asked):
        asleep(handle)
        handle.pause()
        paused(handle)
    assert ended.terminate()
    assert asked.cancel()
    looks(worker)
    assert (ended.status().status, asked.status().status) == ("terminated", "paused")
    asked.resume()
    wait_for(lambda: asked.status().status == "cancelled", "the run to be cancelled")
    assert_invariants(ended)
    assert_invariants(asked)


def test_a_blocked_run_can_be_paused_and_is_blocked_again_if_nothing_has_changed(worker, configure):
    configure(STUCK_SECONDS=0.3)
    handle = durable.start_workflow(workflows.spin, 3600)
    wait_for(lambda: handle.status().status == "blocked", "the run to be blocked")
    handle.pause()
    assert handle.status().status == "paused"
    Dispatch.objects.update(wakeup_at=clock.now())  # whatever wakes it, it rests
    looks(worker)
    paused(handle)
    handle.resume()
    wait_for(lambda: handle.status().status == "blocked", "the run to be blocked again")
    handle.terminate()


def test_a_chain_that_goes_on_and_on_stands_still(worker):
    handle = durable.start_workflow(workflows.continues_for_ever, 0)
    wait_for(lambda: WorkflowRun.objects.count() > 3, "some runs")
    assert handle.pause()
    wait_for(lambda: Dispatch.objects.filter(owner=None, hold="paused"), "the chain to stand still")
    count = WorkflowRun.objects.count()
    looks(worker, 20)
    assert WorkflowRun.objects.count() == count
    assert handle.status().status == "paused"
    handle.resume()
    wait_for(lambda: WorkflowRun.objects.count() > count + 2, "more runs")
    assert handle.terminate()


def test_the_owner_dies_before_it_has_heard(make_worker):
    handle = durable.start_workflow(workflows.approval)
    dead = past_worker()
    give_to(dead, handle)
    assert handle.pause("now")
    handle.signal(workflows.approved("yes"))
    maintenance.recover()
    worker = make_worker()
    paused(handle)
    looks(worker)
    assert not InboxMessage.objects.filter(data__contains='"pause"').exists()
    assert handle.status().status == "paused"
    handle.resume()
    assert handle.result(timeout=DEADLINE) == "yes"
    assert_invariants(handle)


def test_three_workers_pause_and_resume_as_one(make_worker):
    for _ in range(3):
        make_worker()
    handles = [durable.start_workflow(workflows.effects, str(number), 12) for number in range(6)]
    for _ in range(4):
        for handle in handles:
            handle.pause()
        for handle in handles:
            handle.resume()
    assert [len(handle.result(timeout=DEADLINE)) for handle in handles] == [12] * 6
    assert Entry.objects.count() == 72
    for handle in handles:
        assert_invariants(handle)


def test_a_pause_belongs_to_the_callers_transaction(worker):
    handle = durable.start_workflow(workflows.approval)
    asleep(handle)
    with transaction.atomic():
        handle.pause()
        transaction.set_rollback(True)
    assert handle.status().status == "running"
    handle.signal(workflows.approved("yes"))
    assert handle.result(timeout=DEADLINE) == "yes"


def test_what_has_ended_or_never_was_cannot_be_paused(worker):
    handle = durable.start_workflow(workflows.echo, 1)
    handle.result(timeout=DEADLINE)
    assert not handle.pause()
    assert not handle.resume()
    assert not durable.pause_workflow(handle.workflow_id)
    with pytest.raises(WorkflowNotFound):
        durable.pause_workflow("nobody")
    with pytest.raises(WorkflowNotFound):
        durable.resume_workflow("nobody")
    going = durable.start_workflow(workflows.approval)
    assert not going.resume()
    going.terminate()


# All runs of a workflow


def command(name, *args):
    out = io.StringIO()
    call_command(name, *args, stdout=out)
    return out.getvalue().strip()


def test_no_worker_takes_runs_of_a_paused_workflow(make_worker):
    assert durable.pause_definition(workflows.until_told, "deploy")
    assert not durable.pause_definition("flows.until_told")
    assert client.paused_definitions() == {"flows.until_told": "deploy"}
    worker = make_worker()
    handle = durable.start_workflow(workflows.until_told)
    handle.signal(workflows.approved("stop"))
    assert durable.start_workflow(workflows.chain, 2).result(timeout=DEADLINE) == 2
    worker._maintenance._slow_round()
    looks(worker, 20)
    assert handle.status().status == "pending"
    assert durable.resume_definition(workflows.until_told)
    assert not durable.resume_definition(workflows.until_told)
    assert handle.result(timeout=DEADLINE) == 0
    assert_invariants(handle)


def test_owned_runs_of_a_paused_workflow_are_given_back_when_they_next_wait(make_worker, make_gate, configure):
    configure(LINGER_SECONDS=3600)
    gate = make_gate("kept")
    worker = make_worker()
    handle = durable.start_workflow(workflows.hold_then_collect, "kept", 2)
    wait_for(lambda: worker._slots.taken(), "the activity to begin")
    durable.pause_definition("flows.hold_then_collect")
    wait_for(lambda: worker.engine.taking.paused, "the worker to see it")
    gate.set()
    asleep(handle)
    for word in ("one", "two"):
        handle.signal(workflows.approved(word))
    looks(worker, 20)
    assert kinds(handle).count("SignalReceived") == 0
    durable.resume_definition("flows.hold_then_collect")
    assert handle.result(timeout=DEADLINE) == ["one", "two"]
    assert_invariants(handle)


def test_all_versions_of_a_name_are_paused(make_worker):
    durable.pause_definition("flows.edition")
    worker = make_worker()
    handles = [durable.start_workflow(workflows.first_edition), durable.start_workflow(workflows.second_edition)]
    looks(worker, 20)
    assert {handle.status().status for handle in handles} == {"pending"}
    durable.resume_definition("flows.edition")
    for handle in handles:
        handle.signal(workflows.approved("ok"))
    assert [handle.result(timeout=DEADLINE) for handle in handles] == ["first ok", "second ok"]


def test_the_commands_say_what_they_have_done(transactional_db):
    assert command("durable_pause") == "No workflow is paused."
    assert command("durable_pause", "flows.edition", "--reason", "deploy").startswith("flows.edition is paused.")
    assert command("durable_pause", "flows.edition") == "flows.edition was paused already."
    assert command("durable_pause") == "flows.edition: deploy"
    assert command("durable_resume", "flows.edition") == "flows.edition goes on."
    assert command("durable_resume", "flows.edition") == "flows.edition was not paused."
    with pytest.raises(CommandError, match=r"Did you mean 'flows\.edition'"):
        call_command("durable_pause", "flows.editon")


# Kills


def test_runs_are_paused_and_resumed_while_their_workers_are_killed(make_worker, configure):
    configure(LEASE_SECONDS=2)
    handles = [durable.start_workflow(workflows.effects, str(number), 30, 0.01) for number in range(4)]
    workers = [make_worker(), make_worker()]
    for turn in range(5):
        for handle in handles[turn % 2 :: 2]:
            handle.pause()
        workers.pop(0).force_stop()
        workers.append(make_worker())
        for handle in handles:
            handle.resume()
    assert [len(handle.result(timeout=DEADLINE)) for handle in handles] == [30] * 4
    once = Entry.objects.filter(kind="atomic").values_list("key", flat=True)
    assert len(once) == len(set(once)) == 60, "an atomic effect is there exactly once"
    for handle in handles:
        assert_invariants(handle)
