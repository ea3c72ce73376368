"""Runs that cannot go on with the code that is there wait for other code, and go on by themselves."""

from __future__ import annotations

import inspect
from datetime import timedelta

import pytest

from django_durable import ApplicationError, WorkflowFailed, WorkflowTimedOut, durable, instrumentation
from django_durable.definitions.registry import registry
from django_durable.models import Dispatch, InboxMessage, WorkflowRun
from django_durable.store import clock
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for

pytestmark = pytest.mark.parametrize("cache", [0, 1_000], ids=["no cache", "cache"])


@pytest.fixture(autouse=True)
def _cache(configure, cache):
    configure(INSTANCE_CACHE_SIZE=cache)


@pytest.fixture
def faults():
    workflows.faults.clear()
    yield workflows.faults
    workflows.faults.clear()


def blocked(handle):
    status = wait_for(lambda: (now := handle.status()).status == "blocked" and now, "the run to be blocked")
    return status.blocked


def look_until(worker, condition):
    """Let the worker look for runs that nobody takes: what somebody else is just looking at, it leaves for later."""
    wait_for(lambda: worker._maintenance._slow_round() or condition(), "the runs to be found")


def make_due():
    """As if the pause of the blocked runs were over."""
    Dispatch.objects.filter(hold="blocked").update(wakeup_at=clock.now())


def tries(handle):
    return (handle.status().blocked or {}).get("times", 0)


# Faults of the code


@pytest.mark.parametrize("step", ["start", "activity", "signal"])
def test_a_fault_blocks_where_it_is_so_declared_and_the_run_goes_on_with_better_code(worker, faults, step):
    faults[f"a/{step}"] = ValueError("a fault")
    handle = durable.start_workflow(workflows.stumbles, "a")
    handle.signal(workflows.approved("yes"))
    why = blocked(handle)
    lines, first = inspect.getsourcelines(workflows.stumbles.function)
    file, _, line = why["where"].rpartition(":")
    assert (why["reason"], why["message"]) == ("exception", "ValueError: a fault")
    assert file == inspect.getsourcefile(workflows.stumbles.function)
    assert first <= int(line) < first + len(lines)
    assert why["event"] <= len(handle.history()) + 2  # outcome and signal may come together, and are put back together
    assert "RunFailed" not in [entry.type for entry in handle.history()]
    faults.clear()
    make_due()
    assert handle.result(timeout=DEADLINE) == ["a/start", "yes"]
    assert handle.status().blocked is None
    assert list(Entry.objects.values_list("kind", flat=True)) == ["step"], "nothing is done twice, and nothing undone"
    assert_invariants(handle)


def test_a_run_that_goes_on_is_not_called_blocked_whatever_is_claimed_with_it(make_worker, faults):
    faults["a/start"] = ValueError("a fault")
    worker = make_worker()
    handle = durable.start_workflow(workflows.stumbles, "a")
    blocked(handle)
    worker.stop()
    assert worker.join(DEADLINE)
    faults.clear()
    make_due()
    others = [durable.start_workflow(workflows.stumbles, key) for key in "bc"]
    make_worker()
    wait_for(lambda: Entry.objects.filter(key="a/start").exists(), "the run to go on")
    wait_for(lambda: handle.status().blocked is None, "the run to be called running again")
    for one in (handle, *others):
        one.signal(workflows.approved("yes"))
        assert one.result(timeout=DEADLINE)[-1] == "yes"


def test_the_pauses_of_a_run_that_stays_faulty_grow(worker, faults):
    faults["a/activity"] = ValueError("a fault")
    handle = durable.start_workflow(workflows.stumbles, "a")
    blocked(handle)
    pauses = []
    for times in (2, 3, 4):
        make_due()
        wait_for(lambda: tries(handle) >= times, "another try")  # noqa: B023
        row = wait_for(lambda: Dispatch.objects.filter(owner=None).values().first(), "the run to be given back")
        pauses.append((row["wakeup_at"] - clock.read()) / timedelta(seconds=30))
    assert [round(pause) for pause in pauses] == [2, 4, 8]
    assert Entry.objects.count() == 1
    handle.terminate()


def test_what_is_meant_to_fail_fails_whatever_the_setting(worker, faults, configure):
    configure(ON_WORKFLOW_ERROR="block")
    faults["a/start"] = ApplicationError("no stock", type="NoStock")
    faults["b/start"] = ExceptionGroup("several", [ApplicationError("no stock"), ApplicationError("no money")])
    for key, kind in (("a", "NoStock"), ("b", "ExceptionGroup")):
        with pytest.raises(WorkflowFailed) as failed:
            durable.start_workflow(workflows.stumbles, key).result(timeout=DEADLINE)
        assert failed.value.type == kind
    with pytest.raises(WorkflowFailed, match="ActivityError"):
        durable.start_workflow(workflows.call, "flows.fail_for_good", ["a"]).result(timeout=DEADLINE)


def test_the_setting_holds_for_workflows_that_say_nothing(worker, configure):
    handle = durable.start_workflow(workflows.breaks_on_signal)
    handle.signal("break", "it")
    with pytest.raises(WorkflowFailed, match="broke it"):
        handle.result(timeout=DEADLINE)
    configure(ON_WORKFLOW_ERROR="block")
    handle = durable.start_workflow(workflows.breaks_on_signal)
    handle.signal("break", "it")
    assert blocked(handle)["message"] == "ValueError: broke it"
    assert InboxMessage.objects.count() == 1, "the signal waits for better code"
    handle.terminate()
    assert_invariants(handle)


# Missing code


@pytest.fixture
def told():
    """Workflow ids of runs that were said to be blocked, and why."""
    seen = []

    def listen(sender=None, *, workflow_id, block, **_):
        seen.append((workflow_id, block.reason))

    instrumentation.run_blocked.connect(listen)
    yield seen
    instrumentation.run_blocked.disconnect(listen)


def test_runs_without_code_are_blocked_and_go_on_once_a_worker_has_it(make_worker, monkeypatch, told):
    with monkeypatch.context() as deploy:
        deploy.delitem(registry._workflows, workflows.second_edition.key)
        worker = make_worker()
        wait_for(lambda: worker.id, "the worker to register")
    handle = durable.start_workflow(workflows.second_edition)
    handle.signal(workflows.approved("ok"))
    look_until(worker, lambda: handle.status().status == "blocked")
    why = blocked(handle)
    assert why["reason"] == "missing"
    assert "version '2' of workflow 'flows.edition'" in why["message"]
    assert why["since"]
    assert told == [(handle.workflow_id, "missing")]
    worker._maintenance._slow_round()
    make_due()
    look_until(worker, lambda: Dispatch.objects.filter(wakeup_at__gt=clock.read() + timedelta(minutes=50)).exists())
    assert told == [(handle.workflow_id, "missing")], "it is said once"
    make_worker()
    assert handle.result(timeout=DEADLINE) == "second ok"
    assert handle.status().blocked is None
    assert_invariants(handle)


def test_the_time_limit_of_a_run_without_code_goes_on(worker):
    handle = durable.start_workflow(workflows.nap.using(run_timeout=timedelta(seconds=0.1), queue="nobody"), 0)
    Dispatch.objects.update(definition="flows.gone")
    wait_for(lambda: not Dispatch.objects.filter(deadline__gte=clock.now()).exists(), "the time to pass")
    worker._maintenance._slow_round()
    with pytest.raises(WorkflowTimedOut):
        handle.result(timeout=DEADLINE)
    assert_invariants(handle)


def test_a_paused_run_without_code_stays_paused(worker):
    handle = durable.start_workflow(workflows.nap.using(queue="nobody"), 0)
    Dispatch.objects.update(definition="flows.gone")
    handle.pause()
    Dispatch.objects.update(wakeup_at=clock.now())
    look_until(worker, lambda: not Dispatch.objects.filter(wakeup_at__lte=clock.read()).exists())
    assert handle.status().status == "paused"


def test_a_run_of_a_paused_workflow_is_not_called_blocked(make_worker):
    durable.pause_definition("flows.edition")
    worker = make_worker()
    wait_for(lambda: worker.id, "the worker to register")
    handle = durable.start_workflow(workflows.second_edition)
    look_until(worker, lambda: Dispatch.objects.filter(wakeup_at__gt=clock.read()).exists())  # in the way of no claim
    assert handle.status().status == "pending"
    assert WorkflowRun.objects.get().blocked is None
    durable.resume_definition("flows.edition")
    handle.signal(workflows.approved("ok"))
    assert handle.result(timeout=DEADLINE) == "second ok"
