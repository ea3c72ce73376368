"""Resets against everything else that happens to a chain at the same time."""

from __future__ import annotations

import pytest
from django.db import IntegrityError

from django_durable import DurableError, WorkflowAlreadyStarted, durable
from django_durable.client import resetting
from django_durable.models import Dispatch, WorkflowRun
from django_durable.store import flush, history, leases
from tests.integration.store import chains
from tests.integration.store.sessions import Elsewhere, all_at_once, paused

pytestmark = pytest.mark.django_db(transaction=True)


def begun(owner: int):
    claimed = chains.owned(owner, workflow_id="it")
    assert chains.verdicts(flush.flush(owner, [chains.write(claimed, events=3)])) == ["written"]
    return claimed


def test_messages_that_nobody_has_taken_go_to_the_new_run() -> None:
    chain = chains.sleeping(workflow_id="it")
    chains.send(chain)
    new = resetting.reset_run(chain, 1)
    row = Dispatch.objects.get()
    assert (row.pk, row.run_id, row.owner, row.hold) == (chain, new, None, None)
    assert chains.waiting(chain) == ["ping"]
    assert [one.run_id for one in chains.claim(chains.worker())] == [new]


def test_the_owner_can_write_nothing_more() -> None:
    owner = chains.worker()
    claimed = begun(owner)
    new = resetting.reset_run(claimed.run_id, 1)
    late = chains.write(claimed, events=1)
    late = type(late)(
        chain_id=late.chain_id, run_id=late.run_id, epoch=late.epoch, events=(chains.event(claimed.run_id, 5),)
    )
    with pytest.raises(IntegrityError):
        flush.flush(owner, [late])
    assert chains.verdicts(flush.flush(owner, [late], cautious=True)) == ["gone"]
    with leases.fenced(owner):
        pass
    assert Dispatch.objects.get().run_id == new


@pytest.mark.server
def test_open_senders_keep_nobody_from_resetting_and_their_messages_reach_the_new_run() -> None:
    chain = chains.sleeping(workflow_id="it")
    with paused(lambda: chains.send(chain)):
        resetting.reset_run(chain, 1)
    assert chains.waiting(chain) == ["ping"]
    assert Dispatch.objects.get().run_id != chain


@pytest.mark.server
def test_an_event_that_the_owner_is_just_writing_is_seen() -> None:
    claimed = begun(chains.worker())
    with paused(lambda: history.append([chains.event(claimed.run_id, 5)])) as writing:
        reset = Elsewhere(lambda: resetting.reset_run(claimed.run_id, 1))
        reset.wait_until_blocked()
        writing.commit()
        reset.result()
    assert chains.history_of(claimed.run_id)[-2:] == ["TimerStarted", "RunTerminated"]


def test_of_many_resets_at_once_of_a_closed_run_one_is_done() -> None:
    chain = chains.start("it")
    assert durable.terminate_workflow("it")

    def reset() -> str:
        try:
            resetting.reset_run(chain, 1)
        except WorkflowAlreadyStarted:
            return "taken"
        return "done"

    assert sorted(all_at_once([reset] * 4)) == ["done", "taken", "taken", "taken"]
    assert WorkflowRun.objects.open().count() == Dispatch.objects.count() == 1


@pytest.mark.server
def test_a_row_that_stays_locked_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resetting, "PATIENCE", 0.1)
    chain = chains.sleeping(workflow_id="it")
    with paused(lambda: durable.terminate_workflow("it")) as other:
        with pytest.raises(DurableError, match="could not be reset"):
            resetting.reset_run(chain, 1)
        other.rollback()
    assert resetting.reset_run(chain, 1) != chain
