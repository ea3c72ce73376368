"""A run that another one follows: the chain's row changes hands in the transaction of the end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_durable.history import events
from django_durable.history.status import Status
from django_durable.models import Dispatch, HistoryEvent, InboxMessage, WorkflowRun
from django_durable.payloads import payload
from django_durable.store import claims, clock, dispatch, flush, following, identifiers, runs
from tests.integration.store import chains
from tests.integration.store.sessions import paused

pytestmark = pytest.mark.django_db(transaction=True)


def follow(claimed: claims.Claimed, **changes: Any) -> following.Following:
    started = events.RunStarted(input=payload.NULL, seed=1, python="3.12", continued_from=claimed.run_id)
    values: dict[str, Any] = {
        "chain_id": claimed.chain_id,
        "ended": claimed.run_id,
        "run_id": identifiers.uuid7(),
        "started": started,
        "fingerprint": "new",
    }
    return following.Following(**values | changes)


def write(claimed: claims.Claimed, follows: following.Following, **more: Any) -> flush.RunWrite:
    event = events.RunContinuedAsNew(input=payload.NULL, run_id=follows.run_id)
    return flush.RunWrite(
        chain_id=claimed.chain_id,
        run_id=claimed.run_id,
        epoch=claimed.epoch,
        events=(chains.event(claimed.run_id, 2, event),),
        ending=runs.Ending(claimed.chain_id, claimed.run_id, Status.CONTINUED_AS_NEW, follows=follows),
        **more,
    )


def test_the_next_run_is_due_unowned_and_has_its_first_event():
    owner = chains.worker()
    claimed = chains.owned(owner)
    follows = follow(claimed)
    assert chains.verdicts(flush.flush(owner, [write(claimed, follows)])) == ["written"]
    row = chains.row(claimed.chain_id)
    assert (row.run_id, row.owner, row.hold, row.epoch) == (follows.run_id, None, None, claimed.epoch)
    assert chains.history_of(follows.run_id) == ["RunStarted"]
    run = WorkflowRun.objects.get(pk=follows.run_id)
    assert (run.status, run.fingerprint, run.continued_from) == ("running", "new", claimed.run_id)
    [again] = chains.claim(owner)
    assert (again.chain_id, again.run_id, again.epoch) == (claimed.chain_id, follows.run_id, claimed.epoch + 1)
    assert not again.follows(claimed)  # no instance of the run before is good for it


def test_messages_that_were_not_consumed_stay_and_consumed_ones_go():
    owner = chains.worker()
    claimed = chains.owned(owner)
    chains.send(claimed.chain_id, "first")
    read = chains.message_ids(claimed.chain_id)
    chains.send(claimed.chain_id, "second")
    assert chains.verdicts(flush.flush(owner, [write(claimed, follow(claimed), consumed=read)])) == ["written"]
    assert chains.waiting(claimed.chain_id) == ["second"]


@pytest.mark.server
def test_an_open_sender_does_not_keep_a_run_from_being_followed_and_its_message_reaches_the_next():
    owner = chains.worker()
    claimed = chains.owned(owner)
    with paused(lambda: chains.send(claimed.chain_id, "late")):
        follows = follow(claimed)
        assert chains.verdicts(flush.flush(owner, [write(claimed, follows)])) == ["written"]
    assert chains.waiting(claimed.chain_id) == ["late"]
    assert chains.row(claimed.chain_id).run_id == follows.run_id


@pytest.mark.server
def test_a_row_that_is_being_ended_is_not_waited_for():
    owner = chains.worker()
    claimed = chains.owned(owner)
    with paused(lambda: dispatch.locked_for_end([claimed.chain_id])):
        assert chains.verdicts(flush.flush(owner, [write(claimed, follow(claimed))])) == ["busy"]
    assert WorkflowRun.objects.count() == 1


def test_it_is_conditional_on_the_owner():
    owner, other = chains.worker(), chains.worker()
    claimed = chains.owned(owner)
    assert chains.verdicts(flush.flush(other, [write(claimed, follow(claimed))])) == ["gone"]
    assert WorkflowRun.objects.count() == 1
    assert HistoryEvent.objects.count() == 1


def test_a_delayed_one_is_held_until_its_time_or_its_deadline():
    owner = chains.worker()
    claimed = chains.owned(owner)
    WorkflowRun.objects.update(run_timeout=timedelta(minutes=1))
    flush.flush(owner, [write(claimed, follow(claimed, delay=timedelta(hours=1)))])
    row = chains.row(claimed.chain_id)
    assert row.hold == "delayed"
    assert row.wakeup_at is not None
    assert row.deadline == row.wakeup_at + timedelta(minutes=1)
    assert timedelta(minutes=59) < row.wakeup_at - clock.read() <= timedelta(hours=1)
    assert row.wakeup_at == HistoryEvent.objects.get(run_id=row.run_id).time

    claimed = chains.owned(owner)
    WorkflowRun.objects.filter(pk=claimed.run_id).update(execution_deadline=clock.read())
    flush.flush(owner, [write(claimed, follow(claimed, delay=timedelta(hours=1)))])
    row = chains.row(claimed.chain_id)
    assert row.wakeup_at == row.deadline
    assert claims.due("default", 0).exists()


def test_many_are_followed_in_one_flush():
    owner = chains.worker()
    for _ in range(20):
        chains.start()
    claims = chains.claim(owner)
    result = flush.flush(owner, [write(one, follow(one)) for one in claims])
    assert chains.verdicts(result) == ["written"] * 20
    assert Dispatch.objects.filter(owner=None).count() == 20
    assert set(Dispatch.objects.values_list("run_id", flat=True)).isdisjoint({one.run_id for one in claims})
    assert not InboxMessage.objects.exists()
