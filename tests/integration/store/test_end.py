"""The end is provisional: locked against senders, it must find nothing that it has not applied."""

from __future__ import annotations

import pytest

from django_durable import durable
from django_durable.models import Dispatch
from django_durable.store import dispatch, flush, recovery
from tests.integration.store import chains
from tests.integration.store.sessions import Elsewhere, Session, paused

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_end_that_finds_a_message_writes_nothing() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner, workflow_id="open")
    chains.send(claimed.chain_id)
    ending = chains.write(claimed, ends=True, events=3, spilled=(chains.task(claimed),), settled=("b",))
    before = chains.everything_stored()

    assert chains.verdicts(flush.flush(owner, [ending])) == ["redo"]

    assert chains.everything_stored() == before
    assert chains.history_of(claimed.run_id) == ["RunStarted"]
    assert durable.get_workflow_status("open").status == "running"
    assert chains.waiting(claimed.chain_id) == ["ping"]


def test_an_end_that_has_applied_every_message_is_written() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    chains.send(claimed.chain_id)

    ending = chains.write(claimed, ends=True, consumed=chains.message_ids(claimed.chain_id))

    assert chains.verdicts(flush.flush(owner, [ending])) == ["written"]


def test_an_end_that_has_applied_only_some_of_the_messages_is_not_written() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    chains.send(claimed.chain_id)
    applied = chains.message_ids(claimed.chain_id)
    chains.send(claimed.chain_id, "later")

    assert chains.verdicts(flush.flush(owner, [chains.write(claimed, ends=True, consumed=applied)])) == ["redo"]
    assert chains.waiting(claimed.chain_id) == ["ping", "later"]


def test_a_step_that_does_not_end_ignores_messages_that_it_has_not_read() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    chains.send(claimed.chain_id)

    assert chains.verdicts(flush.flush(owner, [chains.write(claimed)])) == ["written"]
    assert chains.waiting(claimed.chain_id) == ["ping"]


@pytest.mark.postgres
def test_a_chain_that_a_sender_has_is_set_aside_and_the_rest_of_the_batch_is_written() -> None:
    owner = chains.worker()
    busy, step, ending = (chains.owned(owner) for _ in range(3))
    batch = [chains.write(busy, ends=True), chains.write(step), chains.write(ending, ends=True)]

    with paused(lambda: chains.send(busy.chain_id)) as sender:
        assert chains.verdicts(flush.flush(owner, batch)) == ["busy", "written", "written"]
        assert chains.history_of(busy.run_id) == ["RunStarted"]
        sender.commit()

    assert chains.verdicts(flush.flush(owner, batch[:1])) == ["redo"]


@pytest.mark.postgres
def test_a_message_that_is_committed_while_the_end_is_on_its_way_is_found_under_the_lock() -> None:
    """The end's first statements are older than the message; the look under the lock must not be."""
    owner = chains.worker()
    claimed = chains.owned(owner)
    locked_for_end = dispatch.locked_for_end

    def overtaken(*args: object, **kwargs: object) -> object:
        Elsewhere(lambda: chains.send(claimed.chain_id)).result()
        return locked_for_end(*args, **kwargs)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "locked_for_end", overtaken)
        result = flush.flush(owner, [chains.write(claimed, ends=True)])

    assert chains.verdicts(result) == ["redo"]
    assert chains.history_of(claimed.run_id) == ["RunStarted"]


def test_only_the_owner_asks_senders_to_step_back() -> None:
    owner, other = chains.worker("owner"), chains.worker("other")
    claimed = chains.owned(owner)

    dispatch.set_closing([claimed.chain_id], other)
    assert chains.row(claimed.chain_id).closing is False

    dispatch.set_closing([claimed.chain_id], owner)
    assert chains.row(claimed.chain_id).closing is True


def test_a_drain_that_goes_on_after_all_lets_senders_come_again() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    dispatch.set_closing([claimed.chain_id], owner)

    flush.flush(owner, [chains.write(claimed, reopens=True)])

    assert chains.row(claimed.chain_id).closing is False


def test_recovery_lets_senders_come_again() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    dispatch.set_closing([claimed.chain_id], owner)
    chains.die(owner)

    recovery.release_chains([owner])

    assert chains.row(claimed.chain_id).closing is False


@pytest.mark.postgres
def test_an_end_waits_for_no_claim_either(session: Session) -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    session.execute("SELECT 1 FROM durable_dispatch WHERE chain_id = %s FOR NO KEY UPDATE", claimed.chain_id)

    assert chains.verdicts(flush.flush(owner, [chains.write(claimed, ends=True)])) == ["busy"]
    assert Dispatch.objects.filter(pk=claimed.chain_id).exists()
