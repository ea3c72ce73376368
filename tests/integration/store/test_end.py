"""The end is provisional: locked against senders, it must find nothing that it has not applied."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from django_durable import durable
from django_durable.history import messages
from django_durable.history.status import Status
from django_durable.models import Dispatch
from django_durable.store import (
    clock,
    database,
    dispatch,
    flush,
    inbox,
    outside,
    paused_workflows,
    queues,
    recovery,
    tasks,
)
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


@pytest.mark.server
def test_a_chain_that_a_sender_has_is_set_aside_and_the_rest_of_the_batch_is_written() -> None:
    owner = chains.worker()
    busy, step, ending = (chains.owned(owner) for _ in range(3))
    batch = [chains.write(busy, ends=True), chains.write(step), chains.write(ending, ends=True)]

    with paused(lambda: chains.send(busy.chain_id)) as sender:
        assert chains.verdicts(flush.flush(owner, batch)) == ["busy", "written", "written"]
        assert chains.history_of(busy.run_id) == ["RunStarted"]
        sender.commit()

    assert chains.verdicts(flush.flush(owner, batch[:1])) == ["redo"]


@pytest.mark.server
def test_an_end_does_not_wait_for_callers_who_are_busy_with_other_chains() -> None:
    """However few rows there are: to read them all would be cheap, and would mean to wait for each."""
    owner = chains.worker()
    other, going_on, *ending = [chains.owned(owner) for _ in range(6)]
    for one in (other, going_on, *ending):
        tasks.insert([chains.task(one, key) for key in ("a", "b")])
        chains.send(one.chain_id)

    def answer() -> None:
        chains.send(other.chain_id)
        assert tasks.locked_by_token(other.chain_id, "b")

    with paused(answer):
        ends = [chains.write(one, ends=True, consumed=chains.message_ids(one.chain_id)) for one in ending]
        result = flush.flush(owner, [*ends, chains.write(going_on, cancelled=("a",), stops=("b",))])
        assert chains.verdicts(result) == ["written"] * 5


@pytest.mark.server
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


@pytest.mark.server
def test_an_end_waits_for_no_claim_either(session: Session) -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    session.lock_for_change(claimed.chain_id)

    assert chains.verdicts(flush.flush(owner, [chains.write(claimed, ends=True)])) == ["busy"]
    assert Dispatch.objects.filter(pk=claimed.chain_id).exists()


# Ends without the code, of what nobody has


def ended_by_anyone(chain: UUID) -> dict[str, dict[UUID, Status]]:
    """What becomes of a chain by each of the verbs, which are undone."""
    verbs = {
        "cancel": lambda: outside.cancel_unbegun([chain], ""),
        "asked": lambda: outside.end_asked([chain]),
        "late": outside.time_out_late,
    }
    ended = {}
    for name, verb in verbs.items():
        with transaction.atomic():
            ended[name] = verb()
            transaction.set_rollback(True)
    return ended


def due_to_end(**changes: Any) -> UUID:
    chain = chains.start(deadline=clock.read() - timedelta(seconds=1), **changes)
    with database.writing():
        inbox.send(chain, messages.Cancel())
    return chain


@pytest.mark.parametrize("why", ["paused queue", "limited queue", "paused workflow", "paused", "delayed", "blocked"])
def test_what_waits_to_begin_is_ended_by_anyone(why: str) -> None:
    chain = due_to_end(hold=why if why in dispatch.HOLDS else None)
    place = dispatch.rows().get(pk=chain)
    match why:
        case "paused queue":
            queues.rows().create(name=place.queue, paused=True)
        case "limited queue":
            queues.rows().create(name=place.queue, concurrency=1, counts="workflows")
        case "paused workflow":
            paused_workflows.add(place.definition, "")

    ended = {"cancel": {chain: "cancelled"}, "asked": {chain: "cancelled"}, "late": {chain: "timed_out"}}
    assert ended_by_anyone(chain) == ended


def test_what_only_waits_for_a_worker_is_only_timed_out() -> None:
    chain = due_to_end()
    queues.rows().create(name=dispatch.rows().get(pk=chain).queue, concurrency=1, counts="activities")

    assert ended_by_anyone(chain) == {"cancel": {}, "asked": {}, "late": {chain: "timed_out"}}


def test_what_has_begun_is_only_timed_out() -> None:
    chain = due_to_end(epoch=1)

    assert ended_by_anyone(chain) == {"cancel": {}, "asked": {}, "late": {chain: "timed_out"}}


def test_what_somebody_has_is_left_to_him() -> None:
    chain = due_to_end()
    chains.claim(chains.worker())

    assert ended_by_anyone(chain) == {"cancel": {}, "asked": {}, "late": {}}


@pytest.mark.server
@pytest.mark.parametrize("lock", ["lock_for_change", "hold_open"])
def test_what_somebody_is_just_claiming_or_sending_to_is_left_for_later(session: Session, lock: str) -> None:
    chain = due_to_end()
    getattr(session, lock)(chain)

    assert ended_by_anyone(chain) == {"cancel": {}, "asked": {}, "late": {}}
