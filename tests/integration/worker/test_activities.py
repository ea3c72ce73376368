"""How activities fail, are tried again, and find a place to run."""

from __future__ import annotations

from functools import partial

from django_durable import durable
from django_durable.models import ActivityTask, WorkflowRun
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE, in_thread, wait_for


def caught(name, *args):
    """How a workflow sees the failure of an activity."""
    handle = durable.start_workflow(workflows.catch, f"flows.{name}", list(args))
    result = handle.result(timeout=DEADLINE)
    assert_invariants(handle)
    return result


# Failures


def test_a_failed_attempt_is_tried_again(worker):
    handle = durable.start_workflow(workflows.call, "flows.fail_until", ["k", 3])
    assert handle.result(timeout=DEADLINE) == 3
    assert list(Entry.objects.order_by("pk").values_list("attempt", flat=True)) == [1, 2, 3]
    assert [entry.type for entry in handle.history()].count("ActivityCompleted") == 1
    assert handle.history()[2].data["attempts"] == 3
    assert_invariants(handle)


def test_the_last_failure_arrives_with_all_that_is_known_of_it(worker):
    failure = caught("fail_always", "broken")
    assert failure == {
        "type": "ValueError",
        "message": "broken",
        "attempts": 3,
        "timeout": None,
        "interrupted": False,
        "cause": "'inner'",
        "traceback": True,
        "data": None,
    }


def test_a_failure_that_says_so_is_not_tried_again(worker):
    failure = caught("fail_for_good", "no money")
    assert (failure["type"], failure["attempts"], failure["data"]) == ("CardDeclined", 1, {"code": 51})


def test_an_activity_may_say_when_it_wants_to_be_tried_again(worker):
    assert durable.start_workflow(workflows.call, "flows.retry_after", ["k", 0.05]).result(timeout=DEADLINE) == 2
    handle = durable.start_workflow(workflows.call, "flows.retry_after", ["long", 3600])
    wait_for(lambda: handle.status().wakeup_at is None and ActivityTask.objects.filter(worker=None), "the pause")
    assert (ActivityTask.objects.get().due_at - handle.status().created_at).total_seconds() > 3000
    assert Entry.objects.filter(key="long").count() == 1


def test_a_result_that_cannot_be_stored_fails_the_activity_at_once(worker):
    failure = caught("unstorable")
    assert (failure["type"], failure["attempts"]) == ("PayloadError", 1)
    assert Entry.objects.filter(kind="unstorable").count() == 1


def test_arguments_that_do_not_fit_fail_in_the_workflow_not_in_the_engine(worker):
    handle = durable.start_workflow(workflows.call, "flows.add", ["not", "numbers", "at all"])
    wait_for(lambda: handle.status().is_closed, "the failure")
    assert handle.status().error_type in ("TypeError", "PayloadError")
    assert_invariants(handle)


def test_an_at_most_once_activity_that_raises_is_tried_again_as_its_policy_says(worker):
    handle = durable.start_workflow(workflows.call, "flows.record_at_most_once", ["once", "k"])
    assert handle.result(timeout=DEADLINE) == "k"
    assert Entry.objects.count() == 1


# Async


def test_async_activities_run_side_by_side(worker):
    handles = [durable.start_workflow(workflows.chain_async, 3) for _ in range(10)]
    assert [handle.result(timeout=DEADLINE) for handle in handles] == [3] * 10
    assert_all_invariants(handles)


def test_an_async_activity_may_use_the_orm(worker):
    handle = durable.start_workflow(workflows.call, "flows.record_async", ["k"])
    assert handle.result(timeout=DEADLINE) == "k: 1"


# Places


def test_a_fan_out_wider_than_the_slots_is_spilled_and_completes(make_worker, make_gate):
    gate = make_gate("wide")
    make_worker(concurrency=2)
    handle = durable.start_workflow(workflows.gather_at_gate, "wide", 6)
    wait_for(lambda: ActivityTask.objects.filter(worker=None).count() == 4, "what no slot is free for to be spilled")
    gate.set()
    assert handle.result(timeout=DEADLINE) == 6
    assert_invariants(handle)


def test_two_workers_share_a_fan_out(make_worker, make_gate):
    gate = make_gate("shared")
    workers = [make_worker(concurrency=2), make_worker(concurrency=2)]
    handle = durable.start_workflow(workflows.gather_at_gate, "shared", 6)
    wait_for(lambda: Entry.objects.filter(kind="gate").count() == 4, "both workers to fill their slots")
    holders = set(ActivityTask.objects.exclude(worker=None).values_list("worker", flat=True))
    assert len(holders) == 1
    assert holders < {worker.id for worker in workers}
    gate.set()
    assert handle.result(timeout=DEADLINE) == 6
    assert Entry.objects.filter(kind="gate").count() == 6
    assert_invariants(handle)


def test_an_activity_of_another_queue_waits_for_a_worker_of_that_queue(make_worker):
    make_worker()
    handle = durable.start_workflow(workflows.call, "flows.elsewhere", ["k"])
    wait_for(lambda: ActivityTask.objects.filter(queue="elsewhere", worker=None), "the task")
    assert durable.start_workflow(workflows.echo, 1).result(timeout=DEADLINE) == 1  # the worker has looked again
    assert not Entry.objects.exists()
    make_worker(queues=("elsewhere",))
    assert handle.result(timeout=DEADLINE) == "k"
    assert_invariants(handle)


def test_a_run_of_another_queue_waits_for_a_worker_of_that_queue(make_worker):
    make_worker()
    handle = durable.start_workflow(workflows.echo.using(queue="elsewhere"), 1)
    durable.start_workflow(workflows.echo, 2).result(timeout=DEADLINE)
    assert handle.status().status == "pending"
    make_worker(queues=("other", "elsewhere"))
    assert handle.result(timeout=DEADLINE) == 1


def test_activities_of_higher_priority_run_first(make_worker):
    make_worker(concurrency=1)
    handle = durable.start_workflow(workflows.all_in_one_place, ["1", "50", "-3", "9"])
    handle.result(timeout=DEADLINE)
    assert list(Entry.objects.order_by("pk").values_list("key", flat=True)) == ["50", "9", "1", "-3"]


def test_runs_of_higher_priority_begin_first(make_worker):
    workflows.visits.clear()
    for priority in (0, 90, -5, 7):
        durable.start_workflow(workflows.visited.using(priority=priority, workflow_id=str(priority)))
    make_worker()
    wait_for(lambda: len(workflows.visits) == 4, "all runs to begin")
    assert workflows.visits == ["90", "7", "0", "-5"]


def test_many_threads_may_start_and_wait_at_once(worker):
    results: list[int] = []

    def run(steps: int) -> None:
        results.append(durable.start_workflow(workflows.chain, steps).result(timeout=DEADLINE))

    for thread in [in_thread(partial(run, steps)) for steps in range(8)]:
        thread.join(DEADLINE)
    assert sorted(results) == list(range(8))
    assert not WorkflowRun.objects.open().exists()
