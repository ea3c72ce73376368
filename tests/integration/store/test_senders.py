"""Messages: senders insert, update nothing, and hold nobody up but the end of the chain."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from django_durable import WorkflowClosed, durable
from django_durable.history import messages
from django_durable.models import InboxMessage
from django_durable.store import database, dispatch, flush, inbox
from tests.integration.store import chains
from tests.integration.store.sessions import Elsewhere, Session, paused, transaction_of, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.postgres
def test_a_sender_updates_nothing(session: Session) -> None:
    chain = chains.sleeping()
    look = "SELECT ctid::text, xmin::text FROM durable_dispatch WHERE chain_id = %s"
    before = session.execute(look, chain)

    chains.send(chain)
    chains.send(chain)

    session.commit()
    assert session.execute(look, chain) == before


def test_a_sender_leaves_the_dispatch_row_as_it_was() -> None:
    chain = chains.sleeping()
    before = chains.row(chain)

    assert chains.send(chain)

    after = chains.row(chain)
    assert (after.owner, after.wakeup_at, after.epoch) == (before.owner, before.wakeup_at, before.epoch)
    assert chains.waiting(chain) == ["ping"]


@pytest.mark.server
def test_senders_to_one_chain_do_not_wait_for_each_other() -> None:
    chain = chains.sleeping()

    with paused(lambda: chains.send(chain, "slow")) as slow:
        assert chains.send(chain, "quick")
        assert chains.waiting(chain) == ["quick"]
        slow.commit()

    assert sorted(chains.waiting(chain)) == ["quick", "slow"]


@pytest.mark.server
def test_senders_that_meet_in_opposite_order_do_not_deadlock() -> None:
    one, two = chains.sleeping(), chains.sleeping()

    with paused(lambda: chains.send(one)) as other, transaction.atomic():
        chains.send(two)
        chains.send(one)
        Elsewhere(lambda: chains.send(two)).result()
        other.commit()

    assert len(chains.waiting(one)) == len(chains.waiting(two)) == 2


@pytest.mark.server
def test_an_open_sender_blocks_neither_claim_nor_step_nor_release() -> None:
    owner = chains.worker()
    chain = chains.start()

    with paused(lambda: chains.send(chain)):
        [claimed] = chains.claim(owner)
        step = chains.verdicts(flush.flush(owner, [chains.write(claimed)]))
        dispatch.release(owner, [dispatch.Release(chain, claimed.epoch, None, True)])

        assert (claimed.chain_id, step, chains.row(chain).owner) == (chain, ["written"], None)


@pytest.mark.server
def test_an_open_sender_blocks_the_end_and_the_end_waits_for_nobody() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)

    with paused(lambda: chains.send(claimed.chain_id)):
        assert chains.verdicts(flush.flush(owner, [chains.write(claimed, ends=True)])) == ["busy"]

    assert chains.history_of(claimed.run_id) == ["RunStarted"]


@pytest.mark.server
def test_a_sender_that_rolls_back_lets_the_end_go_on() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)

    with paused(lambda: chains.send(claimed.chain_id)) as sender:
        sender.rollback()

    assert chains.verdicts(flush.flush(owner, [chains.write(claimed, ends=True)])) == ["written"]


@pytest.mark.server
def test_a_sender_that_meets_the_end_waits_for_it_and_finds_the_chain_gone() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner, workflow_id="ending")

    with transaction.atomic():
        assert dispatch.locked_for_end([claimed.chain_id])
        sender = Elsewhere(lambda: durable.signal_workflow("ending", "ping"))
        sender.wait_until_blocked()
        assert durable.terminate_workflow("ending")

    with pytest.raises(WorkflowClosed):
        sender.result()
    assert InboxMessage.objects.count() == 0


@pytest.mark.server
def test_a_sender_whose_chain_ends_meanwhile_reaches_the_next_one_of_that_workflow_id() -> None:
    first = chains.start("busy")

    with transaction.atomic():
        durable.terminate_workflow("busy")
        second = chains.start("busy")
        sender = Elsewhere(lambda: durable.signal_workflow("busy", "ping"))
        sender.wait_until_blocked()
    sender.result()

    assert (chains.waiting(first), chains.waiting(second)) == ([], ["ping"])


def test_a_signal_to_a_workflow_that_has_ended_is_refused() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner, workflow_id="over")
    chains.end(owner, claimed)

    assert chains.send(claimed.chain_id) is False
    with pytest.raises(WorkflowClosed):
        durable.signal_workflow("over", "ping")


def test_a_message_is_sent_with_the_callers_transaction_or_not_at_all() -> None:
    chain = chains.sleeping(workflow_id="asleep")

    with transaction.atomic():
        durable.signal_workflow("asleep", "ping")
        transaction.set_rollback(True)

    assert (chains.waiting(chain), chains.row(chain).wakeup_at) == ([], None)


def test_the_hint_goes_out_after_the_commit() -> None:
    chain = chains.sleeping(workflow_id="asleep")

    with transaction.atomic():
        durable.signal_workflow("asleep", "ping")
        assert chains.row(chain).wakeup_at is None

    assert chains.row(chain).wakeup_at is not None


def test_a_hint_that_fails_does_not_fail_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise ConnectionError("the database went away after the commit")

    chain = chains.sleeping(workflow_id="asleep")
    monkeypatch.setattr(dispatch, "make_due", broken)

    durable.signal_workflow("asleep", "ping")

    assert chains.waiting(chain) == ["ping"]


def test_messages_of_one_transaction_are_applied_in_the_order_of_the_calls() -> None:
    chain = chains.sleeping()

    with transaction.atomic():
        for name in ("b", "a", "c"):
            chains.send(chain, name)

    assert chains.waiting(chain) == ["b", "a", "c"]


def test_a_send_that_was_committed_before_another_began_is_applied_first() -> None:
    chain = chains.sleeping()

    for name in ("first", "second", "third"):
        Elsewhere(lambda name=name: chains.send(chain, name)).result()  # type: ignore[misc]

    assert chains.waiting(chain) == ["first", "second", "third"]


# A chain that is about to end asks its senders to step back


@pytest.mark.server
def test_senders_step_back_from_a_chain_that_is_closing_so_that_it_can_end() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner, workflow_id="closing")
    dispatch.set_closing([claimed.chain_id], owner)

    sender = Elsewhere(lambda: durable.signal_workflow("closing", "ping"))
    until(lambda: _has_looked(sender))

    assert chains.verdicts(flush.flush(owner, [chains.write(claimed, ends=True)])) == ["written"]
    with pytest.raises(WorkflowClosed):
        sender.result()


def test_a_sender_that_has_waited_long_enough_sends_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "CLOSING_PATIENCE", 0.05)
    owner = chains.worker()
    claimed = chains.owned(owner)
    dispatch.set_closing([claimed.chain_id], owner)

    assert chains.send(claimed.chain_id)

    assert chains.waiting(claimed.chain_id) == ["ping"]


@pytest.mark.server
def test_a_sender_sends_as_soon_as_the_chain_goes_on_after_all() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    dispatch.set_closing([claimed.chain_id], owner)

    sender = Elsewhere(lambda: chains.send(claimed.chain_id))
    until(lambda: sender.backend is not None)
    flush.flush(owner, [chains.write(claimed, reopens=True)])

    assert sender.result()
    assert chains.row(claimed.chain_id).closing is False


# What the engine itself sends


@pytest.mark.server
def test_the_engine_sends_to_whom_it_can_and_waits_for_nobody(session: Session) -> None:
    owner = chains.worker()
    gone = chains.owned(owner)
    chains.end(owner, gone)
    busy, free = chains.sleeping(), chains.sleeping()
    session.lock_for_end(busy)
    result = messages.ActivityResult(key="a")

    with database.writing():
        fates = inbox.deliver([(busy, result), (gone.chain_id, result), (free, result)])

    assert fates == [None, False, True]
    assert list(InboxMessage.objects.values_list("chain_id", flat=True)) == [free]


IDLE = {
    "postgresql": "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'idle in transaction' "
    "AND query LIKE '%%durable_dispatch%%'",
    "mysql": "SELECT 1 FROM information_schema.processlist WHERE id = %s AND command = 'Sleep'",
}


def _has_looked(sender: Elsewhere[None]) -> bool:
    """Whether the sender has seen the chain's row and pauses in its transaction."""
    with connection.cursor() as cursor:
        cursor.execute(IDLE[connection.vendor], [sender.backend])
        is_idle = cursor.fetchone() is not None
    return is_idle and (connection.vendor != "mysql" or transaction_of(sender.backend) != "")
