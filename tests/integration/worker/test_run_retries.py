"""A failed run is followed by another of its chain, as its policy says."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import transaction

from django_durable import Retry, WorkflowCancelled, WorkflowFailed, WorkflowTimedOut, durable
from django_durable.engine import continuing
from django_durable.models import Dispatch, WorkflowRun
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_all_invariants
from tests.integration.worker.running import DEADLINE, wait_for
from tests.integration.worker.test_continuing import runs_of

LATER = Retry(initial_interval=timedelta(hours=1), max_interval=timedelta(hours=1), jitter=False)


@pytest.mark.parametrize("cache", [0, 1000])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_failed_run_is_tried_again_and_the_handle_waits_for_the_end(make_worker, configure, cache, workers):
    configure(INSTANCE_CACHE_SIZE=cache)
    for _ in range(workers):
        make_worker()
    handle = durable.start_workflow(workflows.fails_at_first, 2)
    attempt, before = handle.result(timeout=DEADLINE)
    first, second, third = runs_of(handle)
    assert (attempt, UUID(before)) == (3, second.pk)
    assert [run.status for run in (first, second, third)] == ["failed", "failed", "completed"]
    assert [run.attempt for run in (first, second, third)] == [1, 2, 3]
    assert [run.continued_from for run in (first, second, third)] == [None, first.pk, second.pk]
    assert handle.status().status == "completed"
    last = handle.history()[-1]
    assert (last.type, last.data["run_id"], last.data["failure"]["message"]) == ("RunFailed", second.pk, "try 1")
    assert Entry.objects.filter(kind="tried").count() == 3
    assert_all_invariants([durable.get_workflow(handle.workflow_id), handle])


def test_the_last_failure_is_the_result(worker):
    handle = durable.start_workflow(workflows.fails_at_first, 5)
    with pytest.raises(WorkflowFailed, match="try 3"):
        handle.result(timeout=DEADLINE)
    assert [run.status for run in runs_of(handle)] == ["failed"] * 3
    assert not Dispatch.objects.exists()
    assert durable.get_workflow(handle.workflow_id).history()[-1].data["run_id"] is None


def test_it_begins_after_the_pause_of_the_policy(worker):
    handle = durable.start_workflow(workflows.fails_with.using(retry=LATER), "Refused")
    wait_for(lambda: len(runs_of(handle)) == 2, "the next run")
    first, second = runs_of(handle)
    status = handle.status()
    assert (status.status, status.run_id) == ("pending", second.pk)
    assert first.closed_at is not None
    assert status.wakeup_at is not None
    assert timedelta(minutes=59) < status.wakeup_at - first.closed_at < timedelta(minutes=61)
    assert durable.get_workflow(handle.workflow_id).history()[0].time == status.wakeup_at
    assert handle.cancel("no more")  # at once: nothing of it has begun
    with pytest.raises(WorkflowCancelled, match="no more"):
        handle.result(timeout=1)


@pytest.mark.parametrize(
    ("policy", "arguments", "again"),
    [
        (Retry(initial_interval=timedelta(0)), ("Refused",), True),
        (Retry(initial_interval=timedelta(0)), ("Refused", True), False),
        (Retry(initial_interval=timedelta(0), non_retryable=["Refused"]), ("Refused",), False),
        (Retry(initial_interval=timedelta(0), retryable=["Refused"]), ("Refused",), True),
        (Retry(initial_interval=timedelta(0), retryable=["Other"]), ("Refused",), False),
        (Retry(initial_interval=timedelta(0), max_attempts=1), ("Refused",), False),
        (None, ("Refused",), False),
    ],
)
def test_the_policy_of_the_start_decides(worker, policy, arguments, again):
    handle = durable.start_workflow(workflows.fails_with.using(retry=policy), *arguments)
    if again:
        assert handle.result(timeout=DEADLINE) == 2
    else:
        with pytest.raises(WorkflowFailed):
            handle.result(timeout=DEADLINE)
        assert len(runs_of(handle)) == 1


def test_what_an_activity_failed_with_counts_by_its_type(worker):
    again = durable.start_workflow(workflows.fails_with_its_activity, "a")
    policy = Retry(initial_interval=timedelta(0), non_retryable=["CardDeclined"])
    once = durable.start_workflow(workflows.fails_with_its_activity.using(retry=policy), "b")
    for handle in (again, once):
        with pytest.raises(WorkflowFailed):
            handle.result(timeout=DEADLINE)
    assert (len(runs_of(again)), len(runs_of(once))) == (3, 1)


def test_the_predicate_of_the_declaration_is_asked(worker):
    assert durable.start_workflow(workflows.fails_as_told, "once more").result(timeout=DEADLINE) == 2
    with pytest.raises(WorkflowFailed, match="never"):
        durable.start_workflow(workflows.fails_as_told, "never").result(timeout=DEADLINE)


def is_worth_it(error: BaseException) -> bool:
    return "once more" in str(error)


def test_a_predicate_that_a_start_names_is_asked(worker):
    policy = Retry(when=is_worth_it, initial_interval=timedelta(0))
    again = durable.start_workflow(workflows.fails_by_itself.using(retry=policy), "once more")
    never = durable.start_workflow(workflows.fails_by_itself.using(retry=policy), "never")
    assert again.result(timeout=DEADLINE) == 2
    with pytest.raises(WorkflowFailed, match="never"):
        never.result(timeout=DEADLINE)
    assert len(runs_of(never)) == 1


def test_the_workflow_may_say_when_it_is_tried_again(worker):
    handle = durable.start_workflow(workflows.says_when_to_try_again.using(retry=LATER))
    assert handle.result(timeout=DEADLINE) == 2


def test_signals_that_nobody_took_go_to_the_next_run(worker):
    handle = durable.start_workflow(workflows.fails_after_a_signal)
    for word in ("fail", "a", "b"):
        handle.signal(workflows.approved(word))
    assert handle.result(timeout=DEADLINE) == ["a", "b"]
    assert handle.history()[-1].data["unhandled"] == ()


def test_a_run_that_was_asked_to_end_is_not_tried_again(worker):
    handle = durable.start_workflow(workflows.fails_when_cancelled)
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch=1), "the run to sleep")
    handle.cancel()
    with pytest.raises(WorkflowFailed, match="the cleanup failed"):
        handle.result(timeout=DEADLINE)
    assert len(runs_of(handle)) == 1


def test_a_run_with_too_long_a_history_is_not_tried_again(worker, monkeypatch):
    monkeypatch.setattr(continuing, "EVENTS_LIMIT", 8)
    with transaction.atomic():  # the worker sees all of it at once
        handle = durable.start_workflow(workflows.grows.using(retry=workflows.SOON))
        for _ in range(10):
            handle.signal(workflows.approved("more"))
    with pytest.raises(WorkflowFailed, match="continue_as_new"):
        handle.result(timeout=DEADLINE)
    assert len(runs_of(handle)) == 1


def test_the_time_limit_of_a_chain_is_that_of_all_tries(worker):
    endless = Retry(max_attempts=None, initial_interval=timedelta(milliseconds=50), jitter=False, backoff=1.0)
    limited = workflows.fail.using(retry=endless, execution_timeout=timedelta(seconds=1))
    handle = durable.start_workflow(limited, "always")
    with pytest.raises(WorkflowTimedOut, match="execution_timeout"):
        handle.result(timeout=DEADLINE)
    assert len(runs_of(handle)) > 1


def test_a_run_that_continues_as_new_begins_to_count_again(worker):
    handle = durable.start_workflow(workflows.fails_after_going_on, 0)
    assert handle.result(timeout=DEADLINE) == [2, 2]
    assert [run.attempt for run in runs_of(handle)] == [1, 2, 1, 2, 1, 2]
    assert WorkflowRun.objects.filter(status="continued_as_new").count() == 2
