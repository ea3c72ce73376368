"""Release and wake-up: how a chain falls asleep, and why no message can be slept through."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from django_durable.client import messaging
from django_durable.history import messages
from django_durable.store import claims, clock, database, dispatch, inbox, leases
from tests.integration.store import chains
from tests.integration.store.sessions import Elsewhere, Session, paused

pytestmark = pytest.mark.django_db(transaction=True)


def give_back(owner: int, claimed: claims.Claimed, *, progressed: bool = True) -> None:
    with leases.fenced(owner):
        dispatch.release(owner, [dispatch.Release(claimed.chain_id, claimed.epoch, None, progressed)])


def look_after_release(claimed: claims.Claimed) -> int:
    """What follows the commit of a release: messages that came meanwhile make the chain due."""
    return dispatch.make_due(list(inbox.read([claimed.chain_id])))


def test_a_released_chain_has_no_owner_and_sleeps_until_its_next_timer() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    timer = clock.read() + timedelta(hours=1)

    dispatch.release(owner, [dispatch.Release(claimed.chain_id, claimed.epoch, timer, True)])

    row = chains.row(claimed.chain_id)
    assert (row.owner, row.wakeup_at, row.epoch) == (None, timer, claimed.epoch)


def test_a_release_is_conditional_on_the_owner() -> None:
    owner, other = chains.worker("owner"), chains.worker("other")
    claimed = chains.owned(owner)

    give_back(other, claimed)

    assert chains.row(claimed.chain_id).owner == owner


def test_a_release_is_conditional_on_the_epoch() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    dispatch.release(owner, [dispatch.Release(claimed.chain_id, claimed.epoch, clock.read(), True)])
    [again] = chains.claim(owner)

    give_back(owner, claimed)

    row = chains.row(claimed.chain_id)
    assert (row.owner, row.epoch) == (owner, again.epoch)


def test_a_release_tells_senders_that_the_chain_does_not_end_after_all() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    dispatch.set_closing([claimed.chain_id], owner)

    give_back(owner, claimed)

    assert chains.row(claimed.chain_id).closing is False


@pytest.mark.parametrize(("progressed", "recoveries"), [(True, 0), (False, 3)])
def test_only_progress_forgets_earlier_recoveries(progressed: bool, recoveries: int) -> None:
    owner = chains.worker()
    chain = chains.start(recoveries=3)
    [claimed] = chains.claim(owner, suspects=True)

    give_back(owner, claimed, progressed=progressed)

    assert chains.row(chain).recoveries == recoveries


@pytest.mark.server
def test_a_release_does_not_wait_for_a_sender(session: Session) -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    session.hold_open(claimed.chain_id)

    give_back(owner, claimed)

    assert chains.row(claimed.chain_id).owner is None


@pytest.mark.server
def test_a_chain_that_a_caller_is_ending_does_not_keep_others_from_their_release(session: Session) -> None:
    owner = chains.worker()
    busy, free = chains.owned(owner), chains.owned(owner)
    session.lock_for_end(busy.chain_id)

    with leases.fenced(owner):
        dispatch.release(owner, [dispatch.Release(one.chain_id, one.epoch, None, True) for one in (busy, free)])

    assert chains.row(free.chain_id).owner is None


# Making due


def test_a_chain_without_a_wake_up_time_is_woken() -> None:
    """The smallest of a time and NULL is NULL on SQLite: such a chain would sleep for ever."""
    chain = chains.sleeping()

    assert dispatch.make_due([chain]) == 1

    wakeup_at = chains.row(chain).wakeup_at
    assert wakeup_at is not None
    assert wakeup_at <= clock.read()
    assert [one.chain_id for one in chains.claim(chains.worker())] == [chain]


def test_a_chain_that_sleeps_until_later_is_woken_now() -> None:
    chain = chains.start(wakeup_at=clock.read() + timedelta(days=30))

    assert dispatch.make_due([chain]) == 1

    assert [one.chain_id for one in chains.claim(chains.worker())] == [chain]


def test_a_chain_that_is_due_already_is_not_written_again() -> None:
    due = clock.read() - timedelta(minutes=1)
    chain = chains.start(wakeup_at=due)

    assert dispatch.make_due([chain]) == 0

    assert chains.row(chain).wakeup_at == due


@pytest.mark.parametrize("hold", ["blocked", "paused", "delayed"])
def test_a_chain_on_hold_is_not_woken_by_messages(hold: str) -> None:
    chain = chains.sleeping(hold=hold)

    assert dispatch.make_due([chain]) == 0

    assert chains.row(chain).wakeup_at is None


def test_a_chain_with_an_owner_is_left_to_it() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    before = chains.row(claimed.chain_id).wakeup_at

    assert dispatch.make_due([claimed.chain_id]) == 0

    row = chains.row(claimed.chain_id)
    assert (row.owner, row.wakeup_at) == (owner, before)


@pytest.mark.server
def test_making_due_waits_for_nobody(session: Session) -> None:
    busy, free = chains.sleeping(), chains.sleeping()
    session.lock_for_change(busy)

    assert dispatch.make_due([busy, free]) == 1

    assert chains.row(free).wakeup_at is not None


# Release, then look


def test_a_message_that_came_before_the_release_is_found_by_the_look_after_it() -> None:
    """The process may die between a release and its look; then the same is found by any worker's next poll."""
    owner = chains.worker()
    claimed = chains.owned(owner)
    chains.send(claimed.chain_id)  # the owner has read its inbox for the last time
    assert dispatch.make_due([claimed.chain_id]) == 0  # the sender's hint: the chain has an owner

    give_back(owner, claimed)

    assert look_after_release(claimed) == 1
    assert [one.chain_id for one in chains.claim(owner)] == [claimed.chain_id]


@pytest.mark.server
def test_only_a_look_after_the_commit_finds_a_message_whose_hint_met_the_release() -> None:
    """Inside the transaction the look is too early, and the hint sees the old owner: both find nothing to do."""
    owner = chains.worker()
    claimed = chains.owned(owner)

    with transaction.atomic():
        dispatch.release(owner, [dispatch.Release(claimed.chain_id, claimed.epoch, None, True)])
        inside = inbox.read([claimed.chain_id])
        Elsewhere(lambda: chains.send(claimed.chain_id)).result()
        hinted = Elsewhere(lambda: dispatch.make_due([claimed.chain_id])).result()
    assert (dict(inside), hinted, chains.row(claimed.chain_id).wakeup_at) == ({}, 0, None)

    assert look_after_release(claimed) == 1


@pytest.mark.server
def test_a_message_whose_transaction_outlasts_the_look_is_found_by_its_own_hint() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    workflow_id = chains.run_of(claimed.chain_id).workflow_id

    with paused(lambda: messaging.send(workflow_id, chains.signal())) as sender:
        give_back(owner, claimed)
        assert look_after_release(claimed) == 0
        sender.commit()

    assert [one.chain_id for one in chains.claim(owner)] == [claimed.chain_id]


def test_a_poll_finds_a_message_whose_hint_was_lost() -> None:
    owner, poller = chains.worker("owner"), chains.worker("poller")
    claimed = chains.owned(owner)
    chains.send(claimed.chain_id)
    give_back(owner, claimed)  # and dies before its look

    awaited = inbox.awaited(poller)
    dispatch.make_due(awaited.nobodys)

    assert awaited == (set(), {claimed.chain_id}, set())
    assert [one.chain_id for one in chains.claim(poller)] == [claimed.chain_id]


def test_a_poll_tells_the_pollers_own_chains_from_those_that_nobody_has() -> None:
    owner, other = chains.worker("owner"), chains.worker("other")
    mine, theirs = chains.owned(owner), chains.owned(other)
    nobodys, held, silent = chains.sleeping(), chains.sleeping(hold="blocked"), chains.sleeping()
    for chain in (mine.chain_id, theirs.chain_id, nobodys, nobodys, held):
        chains.send(chain)

    assert inbox.awaited(owner) == ({mine.chain_id}, {nobodys}, set())
    assert inbox.awaited(other) == ({theirs.chain_id}, {nobodys}, set())
    assert silent not in inbox.awaited(owner).nobodys


def test_a_poll_finds_what_is_asked_to_end_and_needs_no_code_for_it() -> None:
    owner = chains.worker()
    mine, begun, sleeping = chains.owned(owner).chain_id, chains.sleeping(epoch=1), chains.sleeping(epoch=1)
    waiting, paused, delayed, silent = (chains.start(hold=hold) for hold in (None, "paused", "delayed", "delayed"))
    with database.writing():
        for chain in (mine, begun, waiting, paused, delayed):
            inbox.send(chain, messages.Cancel())
        inbox.send(sleeping, messages.Terminate())
    chains.send(silent)

    assert inbox.awaited(owner) == ({mine}, {begun, sleeping, waiting}, {sleeping, waiting, paused, delayed})


def test_chains_that_a_claim_took_without_its_worker_knowing_are_given_back() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)  # the reply to the claim's commit was lost
    with database.writing():
        assert dispatch.give_up(chains.worker("other"), [claimed.chain_id]) == 0
        assert dispatch.give_up(owner, [claimed.chain_id]) == 1

    assert [one.epoch for one in chains.claim(owner)] == [claimed.epoch + 1]
