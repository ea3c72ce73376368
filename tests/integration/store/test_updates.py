"""The row of an update is made once, answered once, and kept for a while after the chain's end."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.db import transaction

from django_durable.client import updating
from django_durable.definitions.update import UpdateDefinition
from django_durable.history import events
from django_durable.history.replies import State
from django_durable.models import InboxMessage, Update
from django_durable.store import flush, runs, updates
from tests.integration.store import chains
from tests.integration.store.sessions import Elsewhere, paused

pytestmark = pytest.mark.django_db(transaction=True)

ADD = UpdateDefinition("add")


def send(chain: UUID, update_id: str = "u") -> bool:
    """What callers do, in the caller's transaction."""
    with transaction.atomic():
        return updating.put(chain, update_id, ADD(1))


def state(chain: UUID, update_id: str = "u") -> str:
    return Update.objects.get(chain_id=chain, update_id=update_id).state


def reply(chain: UUID, kind: State, update_id: str = "u") -> updates.Reply:
    return updates.Reply(chain, update_id, chain, kind, result='["json",1]' if kind is State.COMPLETED else None)


def test_the_same_id_makes_one_row_and_one_message() -> None:
    chain, other = chains.sleeping(), chains.sleeping()
    assert [send(chain), send(chain), send(chain, "v"), send(other)] == [True] * 4
    assert Update.objects.filter(chain_id=chain).count() == 2
    assert InboxMessage.objects.filter(chain_id=chain).count() == 2


def test_nothing_is_stored_for_a_chain_that_has_ended() -> None:
    assert send(UUID(int=7)) is False
    assert not Update.objects.exists()


@pytest.mark.server
@pytest.mark.parametrize("commits", [True, False])
def test_the_same_id_waits_for_the_transaction_that_sends_it_first(commits: bool) -> None:
    chain = chains.sleeping()
    with paused(lambda: send(chain)) as first:
        second = Elsewhere(lambda: send(chain))
        second.wait_until_blocked()
        first.commit() if commits else first.rollback()
        assert second.result() is True
    assert Update.objects.count() == InboxMessage.objects.count() == 1


@pytest.mark.server
def test_an_end_is_set_aside_while_a_caller_sends_and_done_again_with_what_was_sent() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    ending = chains.write(claimed, ends=True)
    with paused(lambda: send(claimed.chain_id)) as sender:
        assert chains.verdicts(flush.flush(owner, [ending])) == ["busy"]
        sender.commit()
    assert chains.verdicts(flush.flush(owner, [ending])) == ["redo"]
    assert state(claimed.chain_id) == State.SENT

    [message] = chains.message_ids(claimed.chain_id)
    answered = chains.write(
        claimed, ends=True, consumed=(message,), replies=(reply(claimed.chain_id, State.COMPLETED),)
    )
    assert chains.verdicts(flush.flush(owner, [answered])) == ["written"]
    assert state(claimed.chain_id) == State.COMPLETED
    assert send(claimed.chain_id) is False


def test_a_reply_is_written_with_the_events_of_its_run_or_not_at_all() -> None:
    owner, other = chains.worker("owner"), chains.worker("other")
    claimed = chains.owned(owner)
    send(claimed.chain_id)
    accepted = chains.write(claimed, replies=(reply(claimed.chain_id, State.ACCEPTED),))
    rejected = chains.write(claimed, events=0, replies=(reply(claimed.chain_id, State.REJECTED),))

    assert chains.verdicts(flush.flush(other, [rejected])) == ["gone"]
    assert state(claimed.chain_id) == State.SENT
    assert chains.verdicts(flush.flush(owner, [accepted])) == ["written"]
    assert state(claimed.chain_id) == State.ACCEPTED


def test_a_reply_is_final() -> None:
    chain = chains.sleeping()
    send(chain)
    updates.answer([reply(chain, State.COMPLETED)])
    updates.answer([reply(chain, State.REJECTED), reply(chain, State.COMPLETED, "unknown")])
    found = updates.read(chain, "u")
    assert found == updates.Reply(chain, "u", chain, State.COMPLETED, '["json",1]', None)
    assert updates.read(chain, "unknown") is None


def test_the_end_of_a_chain_answers_what_is_open_and_begins_the_time_after_which_all_is_forgotten() -> None:
    chain, other = chains.sleeping(), chains.sleeping()
    for update_id in ("sent", "accepted", "completed"):
        send(chain, update_id)
    send(other, "sent")
    updates.answer([reply(chain, State.ACCEPTED, "accepted"), reply(chain, State.COMPLETED, "completed")])

    with transaction.atomic():
        assert runs.terminate(chain, events.RunTerminated(), '{"type":"Terminated"}') == chain

    assert [state(chain, one) for one in ("sent", "accepted", "completed")] == ["missed", "failed", "completed"]
    failed = updates.read(chain, "accepted")
    assert failed is not None
    assert failed.failure == '{"type":"Terminated"}'
    assert all(one.closed_at and one.expires_at for one in Update.objects.filter(chain_id=chain))
    assert state(other, "sent") == State.SENT
    assert Update.objects.get(chain_id=other).expires_at is None
