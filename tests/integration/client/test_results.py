"""What callers get of a run's end."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.db import OperationalError, transaction

from django_durable import (
    FailureError,
    PayloadError,
    WorkflowCancelled,
    WorkflowClosed,
    WorkflowFailed,
    WorkflowNotFound,
    WorkflowTerminated,
    WouldWaitForever,
    durable,
)
from django_durable.models import WorkflowRun
from django_durable.store import runs
from tests.flows import workflows
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


def test_waiting_for_a_result_ends_with_a_timeout_error(worker):
    handle = durable.start_workflow(workflows.never_ends)
    wait_for(lambda: handle.status().status == "running", "the run to begin")
    with pytest.raises(TimeoutError, match=r"had not ended after 0.1 s; it is running\."):
        handle.result(timeout=0.1)


def test_a_timeout_error_says_if_no_worker_has_begun(transactional_db):
    handle = durable.start_workflow(workflows.echo, 1)
    with pytest.raises(TimeoutError, match="it is pending: no worker has begun it"):
        handle.result(timeout=0.01)
    assert list(WorkflowRun.objects.pending()) == list(WorkflowRun.objects.all())
    assert not WorkflowRun.objects.running().exists()


@pytest.mark.sqlite
def test_a_look_that_meets_a_lock_is_repeated(worker, monkeypatch):
    handle = durable.start_workflow(workflows.echo, 1)
    met, look = [], runs.chain_state

    def locked(run_id: UUID) -> runs.ChainState | None:
        met.append(run_id)
        if len(met) == 1:
            raise OperationalError("database table is locked: durable_workflowrun")
        return look(run_id)

    monkeypatch.setattr(runs, "chain_state", locked)
    assert handle.result(timeout=DEADLINE) == 1
    assert len(met) > 1


def test_waiting_inside_a_transaction_is_refused_at_once(transactional_db):
    handle = durable.start_workflow(workflows.echo, 1)
    with transaction.atomic(), pytest.raises(WouldWaitForever):
        handle.result()


def test_the_result_of_a_closed_run_can_be_read_inside_a_transaction(worker):
    handle = durable.start_workflow(workflows.echo, 1)
    handle.result(timeout=DEADLINE)
    with transaction.atomic():
        assert handle.result() == 1


def test_a_failed_workflow_raises_with_its_type_message_and_causes(worker):
    handle = durable.start_workflow(workflows.fail_with_cause)
    with pytest.raises(WorkflowFailed) as caught:
        handle.result(timeout=DEADLINE)
    error = caught.value
    assert (error.type, error.message) == ("ValueError", "outer")
    assert (error.workflow_id, error.run_id) == (handle.workflow_id, handle.run_id)
    assert "fail_with_cause" in error.traceback
    assert isinstance(error.cause, FailureError)
    assert (error.cause.type, error.cause.message) == ("ValueError", "outer")
    assert isinstance(error.cause.cause, FailureError)
    assert (error.cause.cause.type, error.cause.cause.message) == ("KeyError", "'inner'")
    assert_invariants(handle)


def test_an_activity_that_failed_is_the_cause_that_callers_see(worker):
    handle = durable.start_workflow(workflows.call, "flows.fail_for_good", ["no money"])
    with pytest.raises(WorkflowFailed) as caught:
        handle.result(timeout=DEADLINE)
    assert caught.value.type == "ActivityError"
    assert caught.value.message == "no money"


def test_a_result_that_cannot_be_stored_fails_the_workflow(worker):
    handle = durable.start_workflow(workflows.unstorable)
    with pytest.raises(WorkflowFailed) as caught:
        handle.result(timeout=DEADLINE)
    assert caught.value.type == PayloadError.__name__
    assert_invariants(handle)


def test_a_cancelled_workflow_raises_with_the_reason(worker):
    handle = durable.start_workflow(workflows.never_ends)
    assert handle.cancel("changed my mind") is True
    with pytest.raises(WorkflowCancelled, match="changed my mind"):
        handle.result(timeout=DEADLINE)
    assert handle.cancel() is False
    assert_invariants(handle)


def test_a_terminated_workflow_raises_with_the_reason(transactional_db):
    handle = durable.start_workflow(workflows.never_ends)
    assert handle.terminate("enough") is True
    with pytest.raises(WorkflowTerminated, match="enough"):
        handle.result(timeout=DEADLINE)
    assert handle.terminate() is False
    assert_invariants(handle)


def test_what_was_never_started_is_not_found(transactional_db):
    for ask in (
        durable.get_workflow,
        durable.get_workflow_status,
        durable.cancel_workflow,
        durable.terminate_workflow,
        lambda workflow_id: durable.signal_workflow(workflow_id, workflows.approved("x")),
    ):
        with pytest.raises(WorkflowNotFound, match="nowhere"):
            ask("nowhere")


def test_a_closed_workflow_takes_no_signals(worker):
    handle = durable.start_workflow(workflows.echo, 1)
    handle.result(timeout=DEADLINE)
    with pytest.raises(WorkflowClosed, match="approved"):
        handle.signal(workflows.approved("late"))


def test_a_handle_by_id_gives_the_typed_result_of_the_latest_run(worker):
    durable.start_workflow(workflows.chain.using(workflow_id="by-id"), 2).result(timeout=DEADLINE)
    durable.start_workflow(workflows.chain.using(workflow_id="by-id"), 4)
    assert durable.get_workflow("by-id").result(timeout=DEADLINE) == 4


def test_the_result_of_a_workflow_whose_code_is_gone_is_plain_json(worker, monkeypatch):
    handle = durable.start_workflow(workflows.echo.using(workflow_id="gone"), {"a": [1, 2]})
    handle.result(timeout=DEADLINE)
    monkeypatch.delitem(durable.registry._workflows, workflows.echo.key)
    assert wait_for(lambda: durable.get_workflow("gone").result(), "the result") == {"a": [1, 2]}
