"""Starts: both or neither with the caller's transaction, and one open run per workflow id."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import transaction

from django_durable import WorkflowAlreadyStarted, durable
from django_durable.client.handle import WorkflowHandle
from django_durable.history.status import Status
from django_durable.models import Dispatch, HistoryEvent, WorkflowRun
from django_durable.store import dispatch, flush, history, runs, starts
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.store import chains, sessions
from tests.integration.store.sessions import Elsewhere, Session, all_at_once, paused

pytestmark = pytest.mark.django_db(transaction=True)

ONE_RUN = {"workflowrun": 1, "dispatch": 1, "historyevent": 1}


def start(workflow_id: str | None = "order", **options: Any) -> WorkflowHandle[Any]:
    return durable.start_workflow(workflows.echo.using(workflow_id=workflow_id, **options), 1)


def start_or_none(workflow_id: str = "order", **options: Any) -> object:
    try:
        return start(workflow_id, **options).run_id
    except WorkflowAlreadyStarted:
        return None


def close(handle: WorkflowHandle[Any], how: str = "completed") -> None:
    """End a run, in the caller's transaction."""
    with transaction.atomic():
        assert dispatch.locked_for_end([handle.run_id])
        history.append([chains.event(handle.run_id, 2)])
        runs.close([runs.Ending(handle.run_id, handle.run_id, Status(how))])


# With the caller's transaction


def test_a_start_that_is_rolled_back_leaves_no_row_in_any_table() -> None:
    with transaction.atomic():
        Entry.objects.create(kind="order", key="1")
        start()
        durable.start_workflows([workflows.echo.call(number) for number in range(3)])
        transaction.set_rollback(True)

    assert chains.everything_stored() == {}
    assert Entry.objects.count() == 0


def test_a_savepoint_that_is_rolled_back_takes_its_starts_along_and_no_others() -> None:
    with transaction.atomic():
        outer = start("outer")
        with pytest.raises(ZeroDivisionError):
            _start_and_fail("inner")

    assert chains.everything_stored() == ONE_RUN
    assert WorkflowRun.objects.get().pk == outer.run_id


def _start_and_fail(workflow_id: str) -> None:
    with transaction.atomic():
        start(workflow_id)
        raise ZeroDivisionError


def test_a_start_that_is_refused_leaves_the_callers_transaction_usable() -> None:
    start()

    with transaction.atomic():
        with pytest.raises(WorkflowAlreadyStarted):
            start()
        Entry.objects.create(kind="order", key="1")

    assert Entry.objects.count() == 1
    assert chains.everything_stored() == ONE_RUN


@pytest.mark.server
def test_no_worker_sees_a_start_before_its_commit() -> None:
    owner = chains.worker()

    with paused(lambda: chains.start()) as caller:
        assert chains.claim(owner) == []
        chain = caller.commit()

    assert [one.chain_id for one in chains.claim(owner)] == [chain]


@pytest.mark.server
@pytest.mark.parametrize("options", [{}, {"on_conflict": "use_existing"}])
def test_the_engine_does_not_wait_for_a_caller_whose_start_has_met_an_open_run(options: dict[str, Any]) -> None:
    owner = chains.worker()
    met, other = chains.owned(owner, workflow_id="order"), chains.owned(owner)

    with paused(lambda: start_or_none(**options)):
        result = flush.flush(owner, [chains.write(met, ends=True), chains.write(other, ends=True)])
        # Where the start is kept from locking the run's keys, it keeps the run from ending instead.
        assert chains.verdicts(result) == ["busy" if sessions.has_gates() else "written", "written"]


# One open run per workflow id


def test_of_starts_that_come_together_one_wins() -> None:
    results = all_at_once([start_or_none] * 4)

    [winner] = [run_id for run_id in results if run_id is not None]
    assert chains.everything_stored() == ONE_RUN
    assert WorkflowRun.objects.get().pk == winner


@pytest.mark.server
@pytest.mark.parametrize("commits", [True, False])
def test_a_start_that_meets_an_uncommitted_one_goes_by_what_becomes_of_it(commits: bool) -> None:
    with transaction.atomic():
        first = start().run_id
        second = Elsewhere(start_or_none)
        second.wait_until_blocked()
        transaction.set_rollback(not commits)

    assert (second.result() is None) is commits
    assert (WorkflowRun.objects.get().pk == first) is commits


@pytest.mark.server
def test_a_start_that_meets_a_closing_run_waits_for_it_and_succeeds() -> None:
    closing = start()

    with transaction.atomic():
        assert closing.terminate()
        second = Elsewhere(start_or_none)
        second.wait_until_blocked()

    assert second.result() is not None
    assert list(WorkflowRun.objects.filter(open_workflow_id="order").values_list("pk", flat=True)) == [second.result()]


@pytest.mark.server
def test_a_start_that_meets_a_close_that_rolls_back_is_refused() -> None:
    going = start()

    with transaction.atomic():
        assert going.terminate()
        second = Elsewhere(start_or_none)
        second.wait_until_blocked()
        transaction.set_rollback(True)

    assert second.result() is None


# Policies


def test_by_default_a_start_is_refused_while_a_run_of_that_id_is_open() -> None:
    first = start()

    with pytest.raises(WorkflowAlreadyStarted) as refused:
        start()

    assert (refused.value.workflow_id, refused.value.run_id) == ("order", first.run_id)


def test_a_start_may_use_the_existing_run() -> None:
    first = start()

    assert start(on_conflict="use_existing").run_id == first.run_id
    assert chains.everything_stored() == ONE_RUN


def test_a_start_may_replace_the_existing_run() -> None:
    first = start()

    second = start(on_conflict="terminate_existing")

    assert second.run_id != first.run_id
    assert (first.status().status, second.status().status) == ("terminated", "pending")


def test_a_replacement_that_is_rolled_back_leaves_the_existing_run() -> None:
    first = start()

    with transaction.atomic():
        start(on_conflict="terminate_existing")
        transaction.set_rollback(True)

    assert first.status().status == "pending"
    assert chains.everything_stored() == ONE_RUN


def test_starts_that_replace_each_other_leave_one_open_run() -> None:
    start()

    all_at_once([lambda: start(on_conflict="terminate_existing")] * 3)

    assert WorkflowRun.objects.filter(open_workflow_id="order").count() == Dispatch.objects.count() == 1
    assert WorkflowRun.objects.filter(status="terminated").count() == 3


@pytest.mark.parametrize(
    ("on_reuse", "ended", "starts"),
    [
        ("allow", "completed", True),
        ("allow", "failed", True),
        ("allow_if_failed", "completed", False),
        ("allow_if_failed", "failed", True),
        ("allow_if_failed", "terminated", True),
        ("reject", "completed", False),
        ("reject", "failed", False),
        ("reject", None, True),
    ],
)
def test_the_id_of_closed_runs_is_used_again_as_the_policy_says(on_reuse: str, ended: str | None, starts: bool) -> None:
    if ended is not None:
        close(start(), ended)
    before = chains.everything_stored()

    if starts:
        assert start(on_reuse=on_reuse).status().status == "pending"
    else:
        with pytest.raises(WorkflowAlreadyStarted):
            start(on_reuse=on_reuse)
        assert chains.everything_stored() == before


@pytest.mark.server
def test_the_policy_for_reuse_looks_at_a_run_that_was_closing_when_the_start_came() -> None:
    """The insert comes first and waits; only the look after it sees how that run ended."""
    closing = start()

    with transaction.atomic():
        close(closing, "completed")
        second = Elsewhere(lambda: start(on_reuse="allow_if_failed"))
        second.wait_until_blocked()

    with pytest.raises(WorkflowAlreadyStarted):
        second.result()
    assert WorkflowRun.objects.count() == 1


# Bulk


def test_a_bulk_start_starts_all_or_none() -> None:
    start("b")
    before = chains.everything_stored()

    with pytest.raises(WorkflowAlreadyStarted):
        durable.start_workflows([workflows.echo.using(workflow_id=name).call(1) for name in ("a", None, "b", "c")])

    assert chains.everything_stored() == before


def test_a_bulk_start_returns_handles_in_the_order_of_its_calls() -> None:
    names = ["c", None, "a", "b"]

    handles = durable.start_workflows([workflows.echo.using(workflow_id=name).call(1) for name in names])

    assert [handle.workflow_id for handle in handles if handle.workflow_id in "abc"] == ["c", "a", "b"]
    assert all(WorkflowRun.objects.get(pk=handle.run_id).workflow_id == handle.workflow_id for handle in handles)
    assert HistoryEvent.objects.count() == Dispatch.objects.count() == 4


@pytest.mark.server
def test_bulk_starts_insert_in_the_order_of_their_ids_so_that_they_cannot_deadlock(session: Session) -> None:
    """The first id is taken by an open transaction: nothing after it may have been inserted meanwhile."""
    names = ["c", "b", "a"]

    with transaction.atomic():
        start("a")
        bulk = Elsewhere(lambda: _bulk(names))
        bulk.wait_until_blocked()
        start("c")  # would deadlock if the bulk start had taken "c" before it waits for "a"
        transaction.set_rollback(True)

    assert len(bulk.result()) == 3


def _bulk(names: list[str]) -> list[WorkflowHandle[Any]]:
    return durable.start_workflows([workflows.echo.using(workflow_id=name).call(1) for name in names])


def test_the_look_and_the_start_agree_when_a_run_ends_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run in the way is gone when its id is looked up: the start is tried again, never refused for nobody."""
    first = start()
    insert, ended = starts.insert, threading.Event()

    def insert_then_lose_the_other(new: starts.NewRun) -> bool:
        inserted = insert(new)
        if not ended.is_set():
            ended.set()
            first.terminate()
        return inserted

    monkeypatch.setattr(starts, "insert", insert_then_lose_the_other)

    assert start().run_id != first.run_id


def test_a_start_makes_the_chain_due_at_once() -> None:
    chain = chains.start()

    row = chains.row(chain)
    assert (row.chain_id, row.run_id, row.epoch, row.owner) == (chain, chain, 0, None)
    assert [one.chain_id for one in chains.claim(chains.worker())] == [chain]
