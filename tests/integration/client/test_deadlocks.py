"""A deadlock that undoes a verb's transaction is no matter of its caller, unless it has undone the caller's too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg.errors
import pytest
from django.db import OperationalError, connection, transaction

from django_durable import durable
from django_durable.models import InboxMessage, Update, WorkflowRun
from django_durable.store import database, outages
from tests.flows import workflows
from tests.integration.worker.running import COMMITTING

pytestmark = COMMITTING

TOLD = workflows.approved("yes")
Break = Callable[[int], None]


@pytest.fixture
def deadlocks(monkeypatch: pytest.MonkeyPatch) -> Break:
    """``deadlocks(2)``: the next two transactions of ours come to nothing, at their very end."""
    monkeypatch.setattr(outages, "PAUSES", (0.0, 0.0, 0.0))
    left = [0]
    writing = database.writing

    @contextmanager
    def breaking(**options: Any) -> Iterator[None]:
        is_outermost = not connection.in_atomic_block
        with writing(**options):
            yield
            if is_outermost and left[0] > 0:
                left[0] -= 1
                raise OperationalError("deadlock detected") from psycopg.errors.DeadlockDetected()

    def break_next(times: int) -> None:
        left[0] = times

    monkeypatch.setattr(database, "writing", breaking)
    return break_next


def open_run(workflow_id: str = "there") -> None:
    durable.start_workflow(workflows.approval.using(workflow_id=workflow_id, queue="nobody"))


def status() -> str:
    return str(durable.get_workflow_status("there").status)


def reset() -> None:
    durable.terminate_workflow("there")
    durable.get_workflow("there").reset(to_event=1)


VERBS: dict[str, tuple[Callable[[], Any], Callable[[], bool]]] = {
    "start": (lambda: open_run("new"), lambda: WorkflowRun.objects.filter(workflow_id="new").count() == 1),
    "starts": (
        lambda: durable.start_workflows([workflows.approval.using(workflow_id=one).call() for one in "ab"]),
        lambda: WorkflowRun.objects.count() == 3,
    ),
    "signal": (lambda: durable.signal_workflow("there", TOLD), lambda: InboxMessage.objects.count() == 1),
    "signals": (
        lambda: durable.signal_workflows(WorkflowRun.objects.all(), TOLD),
        lambda: InboxMessage.objects.count() == 1,
    ),
    "signal with start": (
        lambda: durable.signal_with_start(TOLD, workflows.approval.using(workflow_id="new")),
        lambda: (WorkflowRun.objects.count(), InboxMessage.objects.count()) == (2, 1),
    ),
    "cancel": (lambda: durable.cancel_workflow("there"), lambda: InboxMessage.objects.count() == 1),
    "terminate": (lambda: durable.terminate_workflow("there"), lambda: status() == "terminated"),
    "pause": (lambda: durable.pause_workflow("there"), lambda: status() == "paused"),
    "reset": (reset, lambda: WorkflowRun.objects.count() == 2),
}


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_that_a_deadlock_has_undone_is_done_once_all_the_same(name, deadlocks):
    open_run()
    verb, is_done = VERBS[name]
    deadlocks(3)
    verb()
    assert is_done()


def test_an_update_is_sent_once_all_the_same(deadlocks):
    open_run()
    deadlocks(3)
    with pytest.raises(TimeoutError):
        durable.get_workflow("there").using(timeout=0.01).update("anything")
    assert (Update.objects.count(), InboxMessage.objects.count()) == (1, 1)


def test_it_is_given_up_at_some_time(deadlocks):
    open_run()
    deadlocks(4)
    with pytest.raises(OperationalError, match="deadlock"):
        durable.signal_workflow("there", TOLD)
    assert not InboxMessage.objects.exists()


def test_the_callers_own_transaction_is_his_to_try_again(deadlocks, monkeypatch):
    open_run()
    met = []

    def meet_one(*_: object) -> None:
        met.append(1)
        raise OperationalError("deadlock detected") from psycopg.errors.DeadlockDetected()

    monkeypatch.setattr("django_durable.store.inbox.put", meet_one)
    with pytest.raises(OperationalError, match="deadlock"), transaction.atomic():
        durable.signal_workflow("there", TOLD)
    assert len(met) == 1
