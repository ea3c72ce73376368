"""Runs that go back to an earlier point, and failed ones that go on where they failed."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections import Counter
from datetime import timedelta
from functools import partial

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import transaction

from django_durable import (
    DurableError,
    WorkflowAlreadyStarted,
    WorkflowClosed,
    WorkflowFailed,
    WorkflowTimedOut,
    durable,
)
from django_durable.client import BulkResult
from django_durable.models import ActivityOutcome, ActivityTask, Dispatch, InboxMessage, WorkflowRun
from django_durable.store import clock
from django_durable.worker import attempts
from tests.flows import activities, workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for

pytestmark = pytest.mark.parametrize("cache", [0, 1_000], ids=["no cache", "cache"])


@pytest.fixture(autouse=True)
def _cache(configure, cache):
    configure(INSTANCE_CACHE_SIZE=cache)


@pytest.fixture(autouse=True)
def mishaps():
    activities.mishaps.clear()
    yield activities.mishaps
    activities.mishaps.clear()


def done():
    """How often each activity was executed."""
    return Counter(Entry.objects.values_list("key", flat=True))


def fails(handle):
    with pytest.raises(WorkflowFailed) as failed:
        handle.result(timeout=DEADLINE)
    return failed.value


def place(handle, kind, nth=1):
    """The sequence of the nth event of that type."""
    return [entry.sequence for entry in handle.history() if entry.type == kind][nth - 1]


def kinds(handle):
    return [entry.type for entry in handle.history()]


# Failed runs


@pytest.mark.parametrize("kind", ["mend", "mend_once", "mend_elsewhere"])
def test_a_failed_run_goes_on_with_the_activity_that_failed(make_worker, mishaps, kind):
    make_worker(queues=("default", "elsewhere"))
    mishaps["a/left"] = 1
    handle = durable.start_workflow(workflows.mends, kind, "a")
    assert fails(handle).message == "a/left is broken"
    before = handle.history()
    retried = handle.retry_failed("mended")
    assert retried.run_id != handle.run_id
    assert handle.result(timeout=DEADLINE) == ["a/before", "a/left", "a/right", "a/after"]
    assert retried.result(timeout=DEADLINE) == handle.result(timeout=DEADLINE)
    assert done()["a/before"] == done()["a/after"] == 1
    assert done()["a/left"] == (1 if kind == "mend_once" else 2)
    assert handle.history() == before, "the failed run stays as it was"
    (reset,) = [entry for entry in retried.history() if entry.type == "RunReset"]
    assert [entry.data for entry in retried.history()[: reset.sequence - 1]] == [
        entry.data for entry in before[: reset.sequence - 1]
    ]
    assert reset.data["reason"] == "mended"
    first, second = WorkflowRun.objects.order_by("created_at")
    assert (second.chain_id, second.continued_from, second.workflow_id) == (
        first.chain_id,
        first.pk,
        first.workflow_id,
    )
    assert (first.status, second.status) == ("failed", "completed")
    assert_all_invariants([handle, retried])


def test_the_idempotency_key_stays_the_same_and_later_ones_are_the_new_runs(worker, mishaps):
    mishaps["a/left"] = 1
    handle = durable.start_workflow(workflows.mends, "mend", "a")
    fails(handle)
    retried = handle.retry_failed()
    retried.result(timeout=DEADLINE)
    keys = Entry.objects.filter(key="a/left").values_list("worker", flat=True)
    assert len(set(keys)) == 1
    (after,) = Entry.objects.filter(key="a/after").values_list("worker", flat=True)
    assert after.startswith(retried.run_id.hex[:20])
    assert_invariants(retried)


def test_a_run_that_fails_again_can_be_retried_again(worker, mishaps):
    mishaps["a/left"] = 3
    handle = durable.start_workflow(workflows.mends, "mend", "a")
    for _ in range(3):
        fails(handle)
        handle.retry_failed()
    assert handle.result(timeout=DEADLINE) == ["a/before", "a/left", "a/right", "a/after"]
    assert done()["a/left"] == 4
    assert done()["a/before"] == 1
    assert WorkflowRun.objects.filter(status="failed").count() == 3


def test_a_run_whose_code_had_a_fault_does_its_last_step_again(worker):
    handle = durable.start_workflow(workflows.stumbles, "a")
    workflows.faults["a/signal"] = ValueError("a fault")
    wait_for(lambda: "ActivityCompleted" in kinds(handle), "the first step")
    try:
        handle.signal(workflows.approved("yes"))
        wait_for(lambda: handle.status().status == "blocked", "the fault")
    finally:
        workflows.faults.clear()
    handle.terminate()
    with pytest.raises(DurableError, match="is terminated: only one that has failed"):
        handle.retry_failed()
    again = handle.reset(to_event=len(handle.history()))
    again.signal(workflows.approved("yes"))
    assert again.result(timeout=DEADLINE) == ["a/start", "yes"]
    assert done() == {"a/start": 1}


def test_a_run_that_failed_on_a_signal_gets_it_again(worker, monkeypatch):
    handle = durable.start_workflow(workflows.fails_after_a_signal.using(retry=None))
    handle.signal(workflows.approved("fail"))
    fails(handle)
    handle.retry_failed()
    fails(handle)
    reset = handle.reset(to_event=1, reapply_signals=False)
    for word in ("one", "two"):
        reset.signal(workflows.approved(word))
    assert reset.result(timeout=DEADLINE) == ["one", "two"]


def test_a_run_that_timed_out_gets_its_time_once_more(worker):
    handle = durable.start_workflow(
        workflows.approval.using(run_timeout=timedelta(seconds=2), execution_timeout=timedelta(seconds=2))
    )
    with pytest.raises(WorkflowTimedOut):
        handle.result(timeout=DEADLINE)
    handle.retry_failed()
    deadline = Dispatch.objects.values_list("deadline", flat=True).get()
    assert deadline is not None
    assert deadline > clock.read()
    handle.signal(workflows.approved("in time"))
    assert handle.result(timeout=DEADLINE) == "in time"


def test_a_failed_child_is_tried_again_with_its_parent_and_the_other_goes_on(worker, mishaps):
    mishaps["a/bad"] = 1
    handle = durable.start_workflow(workflows.mends_by_children, "a")
    fails(handle)
    good, bad = (
        WorkflowRun.objects.exclude(parent_run_id=None).order_by("created_at").values_list("workflow_id", flat=True)
    )
    wait_for(lambda: WorkflowRun.objects.filter(status="terminated").exists(), "the other child to end with its parent")
    retried = handle.retry_failed()
    for workflow_id in (good, bad):
        current = durable.get_workflow(workflow_id)
        with contextlib.suppress(WorkflowClosed):  # it needs none, and has ended already
            current.signal(workflows.approved("go"))
    assert handle.result(timeout=DEADLINE) == ["a/good", "a/bad"]
    assert done() == {"a/bad": 2, "a/good": 1}
    assert WorkflowRun.objects.filter(parent_run_id=retried.run_id).count() == 2
    assert_invariants(retried)


def test_what_has_not_failed_is_not_retried(worker):
    handle = durable.start_workflow(workflows.echo, 1)
    handle.result(timeout=DEADLINE)
    with pytest.raises(DurableError, match="is completed: only one that has failed or timed out"):
        handle.retry_failed()


def test_a_workflow_id_that_has_another_run_is_not_taken_from_it(worker, mishaps):
    mishaps["a/left"] = -1
    handle = durable.start_workflow(workflows.mends.using(workflow_id="one"), "mend", "a")
    fails(handle)
    other = durable.start_workflow(workflows.approval.using(workflow_id="one"))
    with pytest.raises(WorkflowAlreadyStarted) as taken:
        handle.retry_failed()
    assert taken.value.run_id == other.run_id
    with pytest.raises(WorkflowAlreadyStarted):
        handle.reset(to_event=1)
    assert WorkflowRun.objects.count() == 2
    other.terminate()


def test_many_failed_runs_go_on_at_once(worker, mishaps):
    handles = []
    for number in range(4):
        mishaps[f"{number}/left"] = 1
        handles.append(durable.start_workflow(workflows.mends.using(workflow_id=f"w{number}"), "mend", str(number)))
    for handle in handles:
        fails(handle)
    durable.start_workflow(workflows.echo, 1).result(timeout=DEADLINE)
    taken = durable.start_workflow(workflows.approval.using(workflow_id="w3"))
    everything = WorkflowRun.objects.all()
    assert durable.retry_failed(everything) == BulkResult(done=3, skipped=3)
    for handle in handles[:3]:
        handle.result(timeout=DEADLINE)
    assert async_to_sync(durable.aretry_failed)(everything.failed()) == BulkResult(skipped=4)
    taken.terminate()


# Going back


def test_a_closed_run_goes_back_and_does_only_what_came_after_once_more(worker):
    handle = durable.start_workflow(workflows.mends, "mend", "a")
    handle.result(timeout=DEADLINE)
    reset = handle.reset(to_event=place(handle, "ActivityScheduled", 4), reason="once more")
    assert reset.result(timeout=DEADLINE) == ["a/before", "a/left", "a/right", "a/after"]
    assert done() == {"a/before": 1, "a/left": 1, "a/right": 1, "a/after": 2}
    assert_all_invariants([handle, reset])


def test_a_run_goes_back_to_a_result_and_that_activity_is_executed_again(worker):
    handle = durable.start_workflow(workflows.mends, "mend", "a")
    handle.result(timeout=DEADLINE)
    handle.reset(to_event=place(handle, "ActivityCompleted", 1))
    assert handle.result(timeout=DEADLINE) == ["a/before", "a/left", "a/right", "a/after"]
    assert done() == {"a/before": 2, "a/left": 2, "a/right": 2, "a/after": 2}


def test_a_run_that_goes_back_to_the_start_begins_anew(worker):
    handle = durable.start_workflow(workflows.mends, "mend", "a")
    handle.result(timeout=DEADLINE)
    reset = handle.reset(to_event=1)
    assert reset.result(timeout=DEADLINE) == handle.result(timeout=DEADLINE)
    assert set(done().values()) == {2}
    assert "RunReset" not in kinds(reset)
    assert_invariants(reset)


def test_signals_that_are_applied_again_come_before_those_that_nobody_has_taken_yet(make_worker):
    worker = make_worker()
    handle = durable.start_workflow(workflows.mends_and_waits, "a")
    handle.signal(workflows.approved("one"))
    wait_for(lambda: done().get("a/2"), "the second step")
    wait_for(lambda: Dispatch.objects.filter(owner=None), "the run to wait")
    worker.stop()
    assert worker.join(DEADLINE)
    handle.signal(workflows.approved("two"))
    reset = handle.reset(to_event=place(handle, "SignalReceived"))
    make_worker()
    assert reset.result(timeout=DEADLINE) == ["a/1", "one", "a/2", "two"]
    assert_all_invariants([handle, reset])


@pytest.mark.parametrize("reapply", [True, False])
def test_signals_that_came_later_are_applied_again_or_not(worker, reapply):
    handle = durable.start_workflow(workflows.mends_and_waits, "a")
    handle.signal(workflows.approved("one"))
    handle.signal(workflows.approved("two"))
    assert handle.result(timeout=DEADLINE) == ["a/1", "one", "a/2", "two"]
    reset = handle.reset(to_event=place(handle, "SignalReceived"), reapply_signals=reapply)
    if not reapply:
        for word in ("three", "four"):
            reset.signal(workflows.approved(word))
    expected = ["a/1", "one", "a/2", "two"] if reapply else ["a/1", "three", "a/2", "four"]
    assert reset.result(timeout=DEADLINE) == expected
    assert done()["a/1"] == 1
    assert_all_invariants([handle, reset])


def test_an_open_run_ends_and_its_messages_go_to_the_new_one(worker):
    handle = durable.start_workflow(workflows.mends_and_waits, "a")
    handle.signal(workflows.approved("one"))
    wait_for(lambda: done().get("a/2"), "the second step")
    wait_for(lambda: Dispatch.objects.filter(owner=None), "the run to wait")
    reset = handle.reset(to_event=place(handle, "SignalReceived"), reapply_signals=False, reason="a wrong word.")
    old = WorkflowRun.objects.get(pk=handle.run_id)
    assert old.status == "terminated"
    assert str(reset.run_id) in handle.history()[-1].data["reason"]
    assert "a wrong word." in handle.history()[-1].data["reason"]
    for word in ("right", "last"):
        handle.signal(workflows.approved(word))
    assert handle.result(timeout=DEADLINE) == ["a/1", "right", "a/2", "last"]
    assert done() == {"a/1": 1, "a/2": 2}
    assert_all_invariants([handle, reset])


def test_an_owned_run_is_reset_under_its_owners_feet(worker, make_gate):
    gate = make_gate("held")
    handle = durable.start_workflow(workflows.hold_then_collect, "held", 1)
    wait_for(lambda: worker._slots.taken(), "the activity to begin")
    reset = handle.reset(to_event=1)
    gate.set()
    reset.signal(workflows.approved("word"))
    assert reset.result(timeout=DEADLINE) == ["word"]
    assert_all_invariants([handle, reset])


def test_a_run_that_is_reset_in_the_middle_of_many_steps_has_one_history(make_worker):
    for _ in range(3):
        make_worker()
    handle = durable.start_workflow(workflows.effects, "much", 40, 0.02)
    current, resets = handle, [handle]
    for _ in range(4):
        wait_for(lambda: kinds(current).count("ActivityCompleted") > 4, "some steps")  # noqa: B023
        current = current.reset(to_event=place(current, "ActivityScheduled", 3))
        resets.append(current)
    assert len(handle.result(timeout=DEADLINE)) == 40
    assert_all_invariants(resets)
    assert done()["much/0"] == 1


def test_a_reset_run_can_be_reset_and_what_it_had_begun_is_taken_back(make_worker, mishaps):
    make_worker()
    handle = durable.start_workflow(workflows.mends, "mend_elsewhere", "a")
    other = make_worker(queues=("elsewhere",))
    handle.result(timeout=DEADLINE)
    other.stop()
    assert other.join(DEADLINE)
    reset = handle.reset(to_event=place(handle, "ActivityScheduled", 4))
    wait_for(lambda: ActivityTask.objects.exists(), "the last activity to wait")
    key = ActivityTask.objects.values_list("key", flat=True).get()
    again = reset.reset(to_event=place(reset, "RunReset"))
    wait_for(lambda: ActivityTask.objects.filter(run_id=again.run_id).count() == 1, "the activity of the third run")
    assert ActivityTask.objects.values_list("key", flat=True).get() != key
    make_worker(queues=("elsewhere",))
    assert handle.result(timeout=DEADLINE) == ["a/before", "a/left", "a/right", "a/after"]
    assert_all_invariants([handle, again])


def test_a_task_of_the_prefix_stays_where_it_is(make_worker):
    make_worker()
    handle = durable.start_workflow(workflows.catch, "flows.elsewhere", ["k"])
    wait_for(lambda: ActivityTask.objects.exists(), "the task")
    task = ActivityTask.objects.get()
    wait_for(lambda: Dispatch.objects.filter(owner=None), "the run to wait")
    handle.signal("ping")
    wait_for(lambda: "SignalReceived" in kinds(handle), "another step")
    reset = handle.reset(to_event=place(handle, "SignalReceived"), reapply_signals=False)
    kept = ActivityTask.objects.get()
    assert (kept.pk, kept.key, kept.run_id) == (task.pk, task.key, reset.run_id)
    make_worker(queues=("elsewhere",))
    assert reset.result(timeout=DEADLINE) == {}
    assert done() == {"k": 1}
    assert_invariants(reset)


def test_a_callback_of_the_prefix_can_be_fulfilled_after_the_end_of_the_run(worker):
    handle = durable.start_workflow(workflows.waits_for_payment)
    opened = wait_for(lambda: "CallbackOpened" in kinds(handle) and handle.history(), "the callback")
    token = next(entry.data["token"] for entry in opened if entry.type == "CallbackOpened")
    handle.signal("ping")
    wait_for(lambda: "SignalReceived" in kinds(handle), "another step")
    handle.terminate()
    reset = handle.reset(to_event=len(handle.history()))
    wait_for(lambda: ActivityTask.objects.filter(external=True), "the callback to be open again")
    durable.complete_activity(token, 7)
    assert reset.result(timeout=DEADLINE) == 7
    assert_invariants(reset)


def test_a_timer_of_the_prefix_goes_on(worker):
    handle = durable.start_workflow(workflows.nap, 0.3)
    handle.result(timeout=DEADLINE)
    reset = handle.reset(to_event=place(handle, "TimerFired"))
    assert reset.result(timeout=DEADLINE) == "rested"
    assert kinds(reset) == ["RunStarted", "TimerStarted", "RunReset", "TimerFired", "RunCompleted"]


def test_a_run_that_goes_back_is_not_forgotten_when_its_worker_dies(make_worker, mishaps):
    handle = durable.start_workflow(workflows.mends, "mend", "a")
    mishaps["a/left"] = 1
    make_worker()
    fails(handle)
    with transaction.atomic():
        retried = handle.retry_failed()
        assert retried.status().status == "pending"
        transaction.set_rollback(True)
    assert WorkflowRun.objects.count() == 1
    assert not Dispatch.objects.exists()
    assert not InboxMessage.objects.exists()
    assert handle.retry_failed().result(timeout=DEADLINE)


def test_there_must_be_such_an_event(worker):
    handle = durable.start_workflow(workflows.echo, 1)
    handle.result(timeout=DEADLINE)
    with pytest.raises(DurableError, match="There is no event 9: the history of this run goes from 1 to 2"):
        handle.reset(to_event=9)
    with pytest.raises(TypeError):
        handle.reset(to_event="3")  # type: ignore[arg-type]


def test_a_paused_run_that_is_reset_stays_paused(worker):
    handle = durable.start_workflow(workflows.mends_and_waits, "a")
    handle.signal(workflows.approved("one"))
    wait_for(lambda: done().get("a/2"), "the second step")
    handle.pause()
    wait_for(lambda: Dispatch.objects.filter(owner=None, hold="paused"), "the pause")
    handle.reset(to_event=place(handle, "SignalReceived"))
    time.sleep(0.3)
    wait_for(lambda: handle.status().status == "paused", "the new run to be paused as well")
    handle.resume()
    handle.signal(workflows.approved("two"))
    assert handle.result(timeout=DEADLINE) == ["a/1", "one", "a/2", "two"]


# Atomic activities whose success the run has not seen


@pytest.fixture
def kept_back(monkeypatch):
    """The success of an atomic activity is committed, and nobody hears of it before this is set."""
    gate = threading.Event()
    original = attempts._read_back

    def read_back(*args):
        gate.wait(DEADLINE)
        return original(*args)

    monkeypatch.setattr(attempts, "_read_back", read_back)
    yield gate
    gate.set()


def unseen(handle):
    """Outcomes that are kept for a run that has not seen them."""
    return ActivityOutcome.objects.filter(chain_id=handle.run_id).count()


@pytest.mark.parametrize("verb", ["retry_failed", "reset"])
def test_what_was_committed_as_the_run_failed_is_not_executed_again(worker, mishaps, kept_back, verb):
    mishaps["a/left"] = 1
    handle = durable.start_workflow(workflows.pays_beside, "a")
    fails(handle)
    assert (done()["a/paid"], unseen(handle)) == (1, 1)
    assert kinds(handle).count("ActivityCompleted") == 0
    kept_back.set()
    again = handle.retry_failed() if verb == "retry_failed" else handle.reset(to_event=place(handle, "ActivityFailed"))
    assert handle.result(timeout=DEADLINE) == ["a/paid", "a/left"]
    assert done() == {"a/paid": 1, "a/left": 2}
    assert unseen(handle) == 0
    assert_all_invariants([handle, again])


def test_what_was_committed_as_the_run_was_terminated_is_not_executed_again(worker, kept_back):
    handle = durable.start_workflow(workflows.pays_beside, "a", False)
    wait_for(lambda: done()["a/paid"], "the payment")
    handle.terminate()
    kept_back.set()
    again = handle.reset(to_event=len(handle.history()))
    again.signal(workflows.approved("yes"))
    assert again.result(timeout=DEADLINE) == ["a/paid"]
    assert done() == {"a/paid": 1}
    assert_all_invariants([handle, again])


def test_what_was_committed_as_an_open_run_was_reset_is_not_executed_again(worker, kept_back):
    handle = durable.start_workflow(workflows.pays_beside, "a", False)
    handle.signal(workflows.approved("yes"))
    wait_for(lambda: done()["a/paid"], "the payment")
    wait_for(lambda: "SignalReceived" in kinds(handle), "the signal")
    again = handle.reset(to_event=place(handle, "SignalReceived"))
    kept_back.set()
    assert again.result(timeout=DEADLINE) == ["a/paid"]
    assert done() == {"a/paid": 1}
    assert_all_invariants([handle, again])


def test_a_run_that_goes_back_to_the_result_of_an_atomic_activity_executes_it_again(worker):
    handle = durable.start_workflow(workflows.pays_beside, "a", False)
    wait_for(lambda: "ActivityCompleted" in kinds(handle), "the payment")
    open_ = handle.reset(to_event=place(handle, "ActivityCompleted"))
    wait_for(lambda: "ActivityCompleted" in kinds(open_), "the second payment")
    open_.signal(workflows.approved("yes"))
    assert open_.result(timeout=DEADLINE) == ["a/paid"]
    closed = open_.reset(to_event=place(open_, "ActivityCompleted"))
    assert closed.result(timeout=DEADLINE) == ["a/paid"]
    assert done() == {"a/paid": 3}
    assert unseen(handle) == 0
    assert_all_invariants([handle, open_, closed])


# Subjects


@pytest.fixture
def alone(worker, mishaps):
    """A failed run that no other might stand beside while it was open, and how to start others like it."""
    mishaps["a/left"] = 1
    start = workflows.mends.using(subject=Entry.objects.create(kind="subject", key="s"), one_per_subject=True)
    handle = durable.start_workflow(start, "mend", "a")
    fails(handle)
    return handle, start


@pytest.mark.parametrize("verb", ["retry_failed", "reset"])
def test_a_run_that_goes_on_after_its_end_keeps_others_away_from_its_subject_again(alone, worker, make_worker, verb):
    handle, start = alone
    worker.stop()
    assert worker.join(DEADLINE)
    retried = handle.retry_failed() if verb == "retry_failed" else handle.reset(to_event=1)
    with pytest.raises(WorkflowAlreadyStarted, match="one_per_subject") as refused:
        durable.start_workflow(start, "mend", "b")
    assert refused.value.run_id == retried.run_id
    again = retried.reset(to_event=1)
    with pytest.raises(WorkflowAlreadyStarted, match="one_per_subject"):
        durable.start_workflow(start, "mend", "b")
    make_worker()
    assert again.result(timeout=DEADLINE)
    assert durable.start_workflow(start, "mend", "b").result(timeout=DEADLINE)


def test_a_run_does_not_go_on_while_another_one_has_its_subject(alone, worker):
    handle, start = alone
    other = durable.start_workflow(workflows.approval.using(subject=start.options.subject, one_per_subject=True))
    for verb in (handle.retry_failed, partial(handle.reset, to_event=1)):
        with pytest.raises(WorkflowAlreadyStarted) as refused:
            verb()
        assert refused.value.run_id == other.run_id
        assert f"workflow {other.workflow_id!r} (flows.approval)" in str(refused.value)
        assert "one_per_subject" in str(refused.value)
    assert durable.retry_failed(WorkflowRun.objects.filter(pk=handle.run_id)) == BulkResult(skipped=1)
    assert WorkflowRun.objects.count() == 2
    other.terminate()
    assert handle.retry_failed().result(timeout=DEADLINE)


def test_a_subject_is_kept_when_a_run_continues_as_new_and_is_then_retried(worker):
    entry = Entry.objects.create(kind="subject", key="s")
    start = workflows.continues_then_fails.using(subject=entry, one_per_subject=True)
    handle = durable.start_workflow(start, 1)
    fails(handle)
    other = durable.start_workflow(workflows.approval.using(subject=entry, one_per_subject=True))
    with pytest.raises(WorkflowAlreadyStarted, match="one_per_subject"):
        handle.retry_failed()
    other.terminate()


# The command


def command(*args):
    out = io.StringIO()
    call_command("durable_retry", *args, stdout=out)
    return out.getvalue()


def test_the_command_retries_what_is_asked_for(worker, mishaps):
    mishaps |= {"a/left": 1, "b/left": 1, "c/left": 1}
    handles = []
    for key in "abc":  # one after the other: those that failed first are retried first
        handles.append(durable.start_workflow(workflows.mends, "mend", key))
        fails(handles[-1])
    other = durable.start_workflow(workflows.fails_with, "Refused", True)
    fails(other)
    assert command("--name", "flows.mends", "--dry-run").count("flows.mends") == 3
    assert command("--failed-since", "2h", "--dry-run").count("\n") == 4
    assert "Runs retried: 0. Left as they are: 0." in command("--failed-since", "2999-01-01")
    assert "Runs retried: 2. Left as they are: 0." in command("--name", "flows.mends", "--limit", "2")
    assert [handle.result(timeout=DEADLINE)[0] for handle in handles[:2]] == ["a/before", "b/before"]
    assert "Runs retried: 1." in command("--name", "flows.mends")
    assert handles[2].result(timeout=DEADLINE)[0] == "c/before"
    assert other.status().status == "failed"
