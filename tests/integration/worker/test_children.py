"""Child workflows: started once, awaited, cancelled, and told when their parent ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from django_durable import WorkflowCancelled, WorkflowFailed, WorkflowTerminated, durable
from django_durable.client import WorkflowHandle, messaging
from django_durable.models import Dispatch, WorkflowRun
from django_durable.store import dispatch
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.deaths import give_to, past_worker
from tests.integration.worker.invariants import assert_all_invariants, assert_family
from tests.integration.worker.running import DEADLINE, wait_for

CACHES = pytest.mark.parametrize("cache", [0, 1000])
WORKERS = pytest.mark.parametrize("workers", [1, 3])


def everyone() -> list[WorkflowHandle[Any]]:
    return [WorkflowHandle(run.workflow_id, run.pk) for run in WorkflowRun.objects.all()]


def statuses(**filters: Any) -> list[str]:
    return sorted(WorkflowRun.objects.filter(**filters).values_list("status", flat=True))


def types(handle: WorkflowHandle[Any]) -> list[str]:
    return [entry.type for entry in handle.history()]


def wait_closed(**filters: Any) -> None:
    wait_for(lambda: not WorkflowRun.objects.filter(open_workflow_id__isnull=False, **filters).exists(), "the end")


@CACHES
@WORKERS
def test_children_run_and_their_results_come_back(make_worker, configure, cache, workers):
    configure(INSTANCE_CACHE_SIZE=cache)
    for _ in range(workers):
        make_worker()
    handle = durable.start_workflow(workflows.parent_of_sum, 20)
    assert handle.result(timeout=DEADLINE) == sum(range(20)) + 20
    assert statuses(parent_chain_id=handle.run_id) == ["completed"] * 20
    assert types(handle).count("ChildScheduled") == types(handle).count("ChildCompleted") == 20
    assert_family(handle)
    assert_all_invariants(everyone())


def test_a_batch_may_be_one_of_children(worker):
    handle = durable.start_workflow(workflows.batch_of_children, list(range(6)))
    assert handle.result(timeout=DEADLINE) == list(range(6))
    assert types(handle).count("ChildCompleted") == 6
    assert_family(handle)


def test_children_of_children_know_their_parents(worker):
    handle = durable.start_workflow(workflows.family.using(workflow_id="eve"), 3)
    parents = handle.result(timeout=DEADLINE)
    children = WorkflowRun.objects.filter(parent_chain_id__isnull=False).order_by("created_at")
    assert parents[:2] == ["nobody", "eve"]
    assert parents[2:] == [run.workflow_id for run in children][:2]
    for one in everyone():
        assert_family(one)


@CACHES
@WORKERS
def test_a_child_with_an_id_of_its_own_is_started_once_and_answered(make_worker, configure, cache, workers):
    configure(INSTANCE_CACHE_SIZE=cache)
    for _ in range(workers):
        make_worker()
    handle = durable.start_workflow(workflows.parent_by_name, "flows.adds", [1, 2], {"workflow_id": "one child"})
    assert handle.result(timeout=DEADLINE) == 3
    assert types(handle) == ["RunStarted", "ChildScheduled", "ChildStarted", "ChildCompleted", "RunCompleted"]
    assert durable.get_workflow("one child").result(timeout=1) == 3
    assert_family(handle)
    assert_all_invariants(everyone())


def test_a_child_whose_id_is_taken_is_an_error_of_its_own_type(worker):
    other = durable.start_workflow(workflows.never_ends.using(workflow_id="taken"))
    handle = durable.start_workflow(workflows.parent_catches, "flows.adds", [1, 2], {"workflow_id": "taken"})
    told = handle.result(timeout=DEADLINE)
    assert (told["type"], told["status"], told["workflow_id"]) == ("WorkflowAlreadyStarted", "", "taken")
    assert "is running already" in told["message"]
    assert types(handle)[1:3] == ["ChildScheduled", "ChildStartFailed"]
    assert not other.status().is_closed
    assert WorkflowRun.objects.filter(workflow_id="taken").count() == 1


def test_the_policies_of_a_start_hold_for_children(worker):
    durable.start_workflow(workflows.echo.using(workflow_id="again"), 1).result(timeout=DEADLINE)
    options = {"workflow_id": "again", "on_reuse": "reject"}
    told = durable.start_workflow(workflows.parent_catches, "flows.adds", [1, 2], options).result(timeout=DEADLINE)
    assert told["type"] == "WorkflowAlreadyStarted"
    durable.start_workflow(workflows.never_ends.using(workflow_id="replaced"))
    options = {"workflow_id": "replaced", "on_conflict": "terminate_existing"}
    assert durable.start_workflow(workflows.parent_by_name, "flows.adds", [1, 2], options).result(DEADLINE) == 3
    assert statuses(workflow_id="replaced") == ["completed", "terminated"]
    with pytest.raises(WorkflowFailed, match="means nothing for"):
        durable.start_workflow(workflows.parent_by_name, "flows.adds", [1, 2], {"on_conflict": "use_existing"}).result(
            timeout=DEADLINE
        )


@pytest.mark.server
def test_a_start_that_somebody_is_in_the_way_of_holds_up_nobody_else(worker):
    with transaction.atomic():
        durable.start_workflow(workflows.echo.using(workflow_id="contested"), 1)
        handle = None

        def start() -> None:
            nonlocal handle
            handle = durable.start_workflow(
                workflows.parent_by_name, "flows.adds", [1, 2], {"workflow_id": "contested"}
            )

        from tests.integration.store.sessions import Elsewhere  # noqa: PLC0415

        Elsewhere(start).result()
        assert handle is not None
        Elsewhere(lambda: wait_for(lambda: "ChildScheduled" in types(handle), "the parent to ask")).result()
        others = Elsewhere(lambda: durable.start_workflow(workflows.chain, 3).result(timeout=DEADLINE))
        assert others.result() == 3
        assert len(types(handle)) == 2
        transaction.set_rollback(True)
    assert handle.result(timeout=DEADLINE) == 3


# Failures


def test_a_childs_failure_comes_with_its_causes(worker):
    handle = durable.start_workflow(workflows.parent_catches, "flows.fail_with_cause", [], {"workflow_id": "fails"})
    assert handle.result(timeout=DEADLINE) == {
        "type": "ValueError",
        "message": "outer",
        "status": "failed",
        "workflow_id": "fails",
        "causes": [["ValueError", "outer"], ["KeyError", "'inner'"]],
    }


def test_a_parent_that_lets_it_pass_fails_with_the_whole_chain(worker):
    handle = durable.start_workflow(workflows.parent_by_name, "flows.parent_by_name", ["flows.fail", ["deep"], {}], {})
    with pytest.raises(WorkflowFailed) as caught:
        handle.result(timeout=DEADLINE)
    assert caught.value.type == "ChildWorkflowError"
    kinds, cause = [], caught.value.cause
    while cause is not None:
        kinds.append(getattr(cause, "type", ""))
        cause = cause.__cause__
    assert kinds[-1] == "ValueError"
    assert statuses() == ["failed"] * 3


@pytest.mark.parametrize("how", ["terminate", "cancel", "time out"])
def test_a_child_that_others_end_tells_its_parent(worker, how):
    options: dict[str, Any] = {"workflow_id": "ended"}
    if how == "time out":
        options["run_timeout"] = 0.3
    handle = durable.start_workflow(workflows.ends_of_child, options["workflow_id"], how == "time out")
    if how != "time out":
        wait_for(lambda: WorkflowRun.objects.filter(open_workflow_id="ended").exists(), "the child")
        getattr(durable, f"{how}_workflow")("ended", "by others")
    status, type, message = handle.result(timeout=DEADLINE)
    expected = {
        "terminate": ("terminated", "Terminated", "by others"),
        "cancel": ("cancelled", "CancelledError", "by others"),
        "time out": ("timed_out", "TimeoutError", "The run did not end within its run_timeout of 0:00:00.300000."),
    }
    assert (status, type, message) == expected[how]
    assert_all_invariants(everyone())


# Cancelling


@CACHES
def test_cancelling_a_parent_cancels_all_below_and_waits_for_them(worker, configure, cache):
    configure(INSTANCE_CACHE_SIZE=cache)
    handle = durable.start_workflow(workflows.never_ends_below, 2)
    wait_for(lambda: WorkflowRun.objects.filter(open_workflow_id="below-0").exists(), "the whole family")
    wait_for(lambda: Dispatch.objects.filter(owner=None, wakeup_at=None).count() == 3, "all to sleep")
    handle.cancel("enough")
    with pytest.raises(WorkflowCancelled):
        handle.result(timeout=DEADLINE)
    assert statuses() == ["cancelled"] * 3
    assert [entry.key for entry in Entry.objects.filter(kind="cleaned up").order_by("pk")] == ["0", "1", "2"]
    assert_all_invariants(everyone())


@pytest.mark.parametrize(("how", "status"), [("wait", "cancelled"), ("try", "cancelled"), ("abandon", None)])
def test_what_a_parent_does_when_it_gives_a_child_up(worker, how, status):
    options = {"cancellation": how, "parent_close": "abandon", "workflow_id": "given up"}
    handle = durable.start_workflow(workflows.parent_with_limit, "flows.clean_up_when_cancelled", [how], options, 2.0)
    assert handle.result(timeout=DEADLINE) == "too late"
    child = durable.get_workflow("given up")
    if how == "wait":
        assert child.status().status == "cancelled"
    if status is None:
        assert "ChildCancelRequested" not in types(handle)
        assert not child.status().is_closed
        child.terminate()
    else:
        with pytest.raises(WorkflowCancelled):
            child.result(timeout=DEADLINE)
        assert Entry.objects.filter(kind="cleanup", key=how).count() == 1


def test_a_handle_cancels_and_signals_its_child(worker):
    handle = durable.start_workflow(workflows.parent_that_waits, "flows.until_told", [], {"workflow_id": "told"})
    handle.signal(workflows.approved("signal"))
    child = wait_for(
        lambda: WorkflowRun.objects.filter(open_workflow_id="told").exists() and durable.get_workflow("told"), "it"
    )
    wait_for(lambda: "SignalReceived" in types(child), "the signal to arrive")
    handle.signal(workflows.approved("cancel"))
    with pytest.raises(WorkflowCancelled, match="the parent says so"):
        child.result(timeout=DEADLINE)
    handle.signal(workflows.approved("await"))
    with pytest.raises(WorkflowFailed, match="the parent says so"):
        handle.result(timeout=DEADLINE)
    assert types(handle).count("ExternalDelivered") == 1


def test_a_handle_may_be_awaited_twice(worker):
    handle = durable.start_workflow(workflows.parent_that_waits, "flows.adds", [1, 2], {})
    handle.signal(workflows.approved("await twice"))
    assert handle.result(timeout=DEADLINE) == [3, 3]


def test_a_delayed_child_is_cancelled_before_it_begins(worker):
    handle = durable.start_workflow(workflows.delays_child, "later")
    wait_for(lambda: WorkflowRun.objects.filter(open_workflow_id="later").exists(), "the child")
    handle.cancel()
    with pytest.raises(WorkflowCancelled):
        handle.result(timeout=DEADLINE)
    assert types(durable.get_workflow("later")) == ["RunStarted", "RunCancelled"]


# The end of a parent


@pytest.mark.parametrize("ends", ["returns", "fails", "is terminated", "times out"])
@pytest.mark.parametrize(
    ("policy", "status"), [("terminate", "terminated"), ("cancel", "cancelled"), ("abandon", None)]
)
def test_children_of_a_parent_that_ends_are_dealt_with_as_their_option_says(worker, ends, policy, status):
    options = {"parent_close": policy, "workflow_id": "left"}
    parent = workflows.parent_that_waits
    if ends == "times out":
        parent = parent.using(run_timeout=timedelta(seconds=0.5))
    handle = durable.start_workflow(parent, "flows.clean_up_when_cancelled", ["k"], options)
    child = wait_for(
        lambda: WorkflowRun.objects.filter(open_workflow_id="left").exists() and durable.get_workflow("left"), "it"
    )
    if ends == "is terminated":
        handle.terminate()
    elif ends != "times out":
        handle.signal(workflows.approved("fail" if ends == "fails" else "leave"))
    wait_for(lambda: handle.status().is_closed, "the parent to end")
    if status is None:
        messaging.close_children()
        assert not child.status().is_closed
        child.terminate()
        return
    wait_for(lambda: child.status().is_closed, "the child to end")
    assert child.status().status == status
    assert "The parent workflow has ended." in str(child.status().error_message)
    assert Entry.objects.filter(kind="cleanup").count() == (policy == "cancel")
    assert_all_invariants(everyone())


def test_a_child_without_an_id_survives_a_parent_that_ends_at_once(worker):
    handle = durable.start_workflow(workflows.parent_that_returns, "flows.nap", [0.2], {"parent_close": "abandon"})
    workflow_id, run_id = handle.result(timeout=DEADLINE)
    child = durable.get_workflow(workflow_id)
    assert str(child.run_id) == run_id
    assert child.result(timeout=DEADLINE) == "rested"


@pytest.mark.parametrize("hold", ["blocked", "paused", "delayed"])
def test_held_children_of_a_parent_that_ends_are_terminated_too(worker, hold):
    handle = durable.start_workflow(workflows.parent_that_waits, "flows.never_ends", [], {"workflow_id": "held"})
    child = wait_for(
        lambda: Dispatch.objects.filter(owner=None, wakeup_at=None, definition="flows.never_ends"), "it to sleep"
    )
    assert child.update(hold=hold) == 1
    handle.signal(workflows.approved("leave"))
    with pytest.raises(WorkflowTerminated):
        durable.get_workflow("held").result(timeout=DEADLINE)


def test_an_orphan_that_nobody_told_is_found_by_a_sweep(make_worker):
    worker = make_worker()
    handle = durable.start_workflow(workflows.parent_that_waits, "flows.never_ends", [], {"workflow_id": "orphan"})
    wait_for(lambda: Dispatch.objects.filter(owner=None, wakeup_at=None).count() == 2, "both to sleep")
    worker.stop()  # its own sweep would come first now and then
    assert worker.join(DEADLINE)
    Dispatch.objects.filter(pk=handle.run_id).delete()  # as an end would leave it that nobody heard of
    assert messaging.close_children() == 1
    assert messaging.close_children() == 0  # told once
    make_worker()
    with pytest.raises(WorkflowTerminated):
        durable.get_workflow("orphan").result(timeout=DEADLINE)


def test_children_of_a_failed_try_end_with_it(worker):
    handle = durable.start_workflow(workflows.parent_tried_again)
    assert handle.result(timeout=DEADLINE) == [2]
    wait_closed()
    assert statuses(workflow_id__startswith="left") == ["terminated", "terminated"]


def test_children_go_on_while_their_parent_continues_as_new(worker):
    handle = durable.start_workflow(workflows.parent_that_waits, "flows.never_ends", [], {})
    handle.signal(workflows.approved("continue"))
    wait_for(lambda: WorkflowRun.objects.filter(name="flows.never_ends").count() == 2, "the second child")
    messaging.close_children()
    assert statuses(name="flows.never_ends") == ["running", "running"]
    handle.signal(workflows.approved("leave"))
    assert handle.result(timeout=DEADLINE) == "left"
    wait_closed()
    assert statuses(name="flows.never_ends") == ["terminated", "terminated"]


# Chains of children


@pytest.mark.parametrize(("name", "args", "result"), [("flows.counts_down", [3], 3), ("flows.fails_at_first", [2], 3)])
def test_a_child_that_goes_on_as_another_run_replies_once_at_its_end(worker, name, args, result):
    handle = durable.start_workflow(workflows.parent_by_name, name, args, {})
    assert handle.result(timeout=DEADLINE)[0] == result
    assert types(handle).count("ChildCompleted") == 1
    assert len({run.parent_key for run in WorkflowRun.objects.filter(name=name)}) == 1
    assert WorkflowRun.objects.filter(name=name).count() == result + (name == "flows.counts_down")
    assert_all_invariants(everyone())


# Other workflows


def test_a_workflow_signals_another_and_hears_when_there_is_none(worker):
    other = durable.start_workflow(workflows.collect_signals.using(workflow_id="other"), 2)
    handle = durable.start_workflow(workflows.signals_other, "other", ["a", "b"])
    assert handle.result(timeout=DEADLINE) == ["sent", "sent"]
    assert other.result(timeout=DEADLINE) == ["a", "b"]
    assert durable.start_workflow(workflows.signals_other, "other", ["c"]).result(DEADLINE) == ["WorkflowClosed"]
    assert durable.start_workflow(workflows.signals_other, "no", ["c"]).result(DEADLINE) == ["WorkflowNotFound"]
    assert_all_invariants(everyone())


def test_a_workflow_signals_itself(worker):
    handle = durable.start_workflow(workflows.signals_other.using(workflow_id="me"), "me", ["a"])
    assert handle.result(timeout=DEADLINE) == ["sent"]
    assert handle.history()[-1].data["unhandled"] == ("approved",)


def test_a_workflow_cancels_another(worker):
    other = durable.start_workflow(workflows.clean_up_when_cancelled.using(workflow_id="other"), "k")
    assert durable.start_workflow(workflows.cancels_other, "other").result(timeout=DEADLINE) == "asked"
    with pytest.raises(WorkflowCancelled, match="another workflow says so"):
        other.result(timeout=DEADLINE)
    assert durable.start_workflow(workflows.cancels_other, "other").result(DEADLINE) == "WorkflowClosed"
    assert durable.start_workflow(workflows.cancels_other, "no").result(DEADLINE) == "WorkflowNotFound"


# Deaths


def test_the_start_of_a_child_is_made_by_whoever_takes_over(make_worker, configure, monkeypatch):
    """The worker died between the commit that holds the request and the start."""
    configure(LEASE_SECONDS=4)
    from django_durable.worker.child_starts import ChildStarts  # noqa: PLC0415

    with monkeypatch.context() as dying:
        dying.setattr(ChildStarts, "ask", lambda self, start: None)
        first = make_worker()
        handle = durable.start_workflow(workflows.parent_by_name, "flows.adds", [1, 2], {"workflow_id": "later"})
        wait_for(lambda: "ChildScheduled" in types(handle), "the parent to ask")
        assert not WorkflowRun.objects.filter(workflow_id="later").exists()
        wait_for(lambda: Dispatch.objects.get().owner == first.id, "the run to stay with its worker")
        first.stop()
        assert first.join(DEADLINE)
    make_worker()
    assert handle.result(timeout=DEADLINE) == 3
    assert types(handle).count("ChildStarted") == 1
    assert_family(handle)


def test_a_start_that_was_made_is_not_made_again(make_worker, configure, monkeypatch):
    """The worker died after the start, before it had read the answer."""
    configure(LEASE_SECONDS=4)
    make_worker()
    handle = durable.start_workflow(workflows.parent_by_name, "flows.adds", [1, 2], {"workflow_id": "once"})
    assert handle.result(timeout=DEADLINE) == 3
    assert WorkflowRun.objects.filter(workflow_id="once").count() == 1


def test_workers_that_die_with_children_in_flight_start_none_twice(make_worker, configure):
    configure(LEASE_SECONDS=4)
    handles = [durable.start_workflow(workflows.parent_of_sum, 5) for _ in range(4)]
    first = make_worker()
    wait_for(lambda: WorkflowRun.objects.filter(parent_chain_id__isnull=False).count() >= 5, "some children")
    first._ended.set()  # at once, whatever it has in hand
    first.wake()
    assert first.join(DEADLINE)
    for _ in range(2):
        make_worker()
    assert [handle.result(timeout=DEADLINE) for handle in handles] == [15] * 4
    for handle in handles:
        assert_family(handle)
    assert WorkflowRun.objects.filter(parent_chain_id__isnull=False).count() == 20
    assert_all_invariants(everyone())


def test_the_children_of_a_dead_worker_are_taken_over(make_worker, configure):
    configure(LEASE_SECONDS=4)
    handle = durable.start_workflow(workflows.parent_of_sum, 5)
    give_to(past_worker(), handle)
    for _ in range(3):
        make_worker()
    assert handle.result(timeout=DEADLINE) == 15
    assert_family(handle)


def test_a_thousand_children_of_one_parent(make_worker):
    make_worker(concurrency=16)
    handle = durable.start_workflow(workflows.parent_of_echoes, 1000)
    assert handle.result(timeout=DEADLINE * 3) == 1000
    assert types(handle).count("ChildScheduled") == types(handle).count("ChildCompleted") == 1000
    assert not dispatch.rows().exists()
