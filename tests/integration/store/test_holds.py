"""Pauses against everything else that happens to a chain at the same time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from django_durable import durable
from django_durable.client import pausing
from django_durable.exceptions import DurableError
from django_durable.models import Dispatch
from django_durable.store import claims, clock, dispatch, flush, holds, inbox, leases, recovery
from django_durable.store.holds import Fate, Held
from tests.flows import workflows
from tests.integration.store import chains
from tests.integration.store.sessions import paused

pytestmark = pytest.mark.django_db(transaction=True)


def pause(chain: object, reason: str = "") -> Held:
    with transaction.atomic():
        return holds.pause(chain, reason)  # type: ignore[arg-type]


def resume(chain: object) -> Held:
    with transaction.atomic():
        return holds.resume(chain)  # type: ignore[arg-type]


def settle(owner: int, claimed: claims.Claimed) -> Fate:
    with leases.fenced(owner):
        return holds.settle(owner, claimed)


def begun(owner: int) -> claims.Claimed:
    """An owned chain whose first step is recorded."""
    claimed = chains.owned(owner, workflow_id="it")
    assert chains.verdicts(flush.flush(owner, [chains.write(claimed)])) == ["written"]
    return claimed


def test_a_pause_of_what_nobody_has_is_written_at_once() -> None:
    deadline = clock.read() + timedelta(hours=1)
    chain = chains.start("it", deadline=deadline)
    assert pause(chain) is Held.DONE
    row = Dispatch.objects.get()
    assert (row.hold, row.wakeup_at, row.owner) == ("paused", deadline, None)
    assert durable.get_workflow_status("it").status == "paused"
    assert chains.history_of(chain) == ["RunStarted", "RunPaused"]


def test_the_owner_is_told_and_gives_back() -> None:
    owner = chains.worker()
    claimed = begun(owner)
    assert pause(claimed.chain_id, "for lunch") is Held.DONE
    assert Dispatch.objects.get().owner == owner
    assert settle(owner, claimed) is Fate.PAUSED
    assert (Dispatch.objects.get().owner, Dispatch.objects.get().hold) == (None, "paused")
    assert durable.get_workflow("it").history()[-1].data == {"reason": "for lunch"}
    assert chains.history_of(claimed.run_id)[-1] == "RunPaused"
    assert inbox.read([claimed.chain_id]) == {}


def test_a_pause_that_was_taken_back_before_the_owner_looked_means_nothing() -> None:
    owner = chains.worker()
    claimed = begun(owner)
    before = chains.history_of(claimed.run_id)
    pause(claimed.chain_id)
    assert resume(claimed.chain_id) is Held.DONE
    assert settle(owner, claimed) is Fate.GOING
    assert (Dispatch.objects.get().owner, Dispatch.objects.get().hold) == (owner, None)
    assert chains.history_of(claimed.run_id) == before
    assert inbox.read([claimed.chain_id]) == {}


def test_two_pauses_are_one() -> None:
    owner = chains.worker()
    claimed = begun(owner)
    assert [pause(claimed.chain_id), pause(claimed.chain_id)] == [Held.DONE, Held.NOTHING]
    settle(owner, claimed)
    assert pause(claimed.chain_id) is Held.NOTHING
    assert [resume(claimed.chain_id), resume(claimed.chain_id)] == [Held.DONE, Held.NOTHING]
    assert chains.history_of(claimed.run_id)[-2:] == ["RunPaused", "RunResumed"]


def test_who_is_not_the_owner_any_more_gives_nothing_back() -> None:
    owner, other = chains.worker(), chains.worker("two")
    claimed = begun(owner)
    pause(claimed.chain_id)
    Dispatch.objects.update(owner=other)
    assert settle(owner, claimed) is Fate.GONE
    assert Dispatch.objects.get().owner == other


def test_an_instance_from_before_a_pause_is_not_used_after_it() -> None:
    owner = chains.worker()
    claimed = begun(owner)
    with leases.fenced(owner):
        dispatch.release(owner, [dispatch.Release(claimed.chain_id, claimed.epoch, None, True)])
    pause(claimed.chain_id)
    resume(claimed.chain_id)
    (again,) = chains.claim(owner)
    assert not again.follows(claimed)


def test_a_resumed_run_is_due_and_one_that_is_to_begin_later_is_not() -> None:
    now = chains.start("now")
    later = durable.start_workflow(workflows.echo.using(workflow_id="later", start_delay=timedelta(hours=1)), 1).run_id
    for chain in (now, later):
        pause(chain)
        resume(chain)
    assert [one.chain_id for one in chains.claim(chains.worker())] == [now]
    row = Dispatch.objects.get(pk=later)
    assert (row.hold, durable.get_workflow_status("later").status) == ("delayed", "pending")
    assert row.wakeup_at is not None
    assert row.wakeup_at > clock.read() + timedelta(minutes=50)


def released(owner: int, claimed: claims.Claimed) -> None:
    """Its owner gives the run back, to be woken in an hour, without having heard of any pause."""
    again = clock.read() + timedelta(hours=1)
    with leases.fenced(owner):
        dispatch.release(owner, [dispatch.Release(claimed.chain_id, claimed.epoch, again, True)])


def test_a_pause_that_meets_a_release_is_noted_by_the_next_owner_at_once() -> None:
    owner = chains.worker()
    claimed = begun(owner)
    pause(claimed.chain_id, "for lunch")
    released(owner, claimed)
    (again,) = chains.claim(owner)
    assert again.hold == dispatch.PAUSED
    assert settle(owner, again) is Fate.PAUSED
    assert chains.history_of(claimed.run_id)[-1] == "RunPaused"
    assert durable.get_workflow("it").history()[-1].data == {"reason": "for lunch"}
    assert chains.claim(owner) == []


def test_a_pause_that_meets_a_release_is_noted_even_if_nobody_takes_the_run_before_it_is_resumed() -> None:
    owner = chains.worker()
    claimed = begun(owner)
    before = chains.history_of(claimed.run_id)
    pause(claimed.chain_id, "for lunch")
    released(owner, claimed)
    assert resume(claimed.chain_id) is Held.DONE
    assert chains.history_of(claimed.run_id) == [*before, "RunPaused", "RunResumed"]
    assert durable.get_workflow("it").history()[-2].data == {"reason": "for lunch"}
    assert inbox.read([claimed.chain_id]) == {}


def test_a_pause_whose_owner_dies_is_noted_even_if_nobody_takes_the_run_before_it_is_resumed() -> None:
    owner = chains.worker()
    claimed = begun(owner)
    before = chains.history_of(claimed.run_id)
    pause(claimed.chain_id)
    chains.die(owner)
    recovery.release_chains([owner])
    assert resume(claimed.chain_id) is Held.DONE
    assert chains.history_of(claimed.run_id) == [*before, "RunPaused", "RunResumed"]


def test_a_pause_that_was_taken_back_does_not_make_the_next_one_stand_there_twice() -> None:
    owner = chains.worker()
    claimed = begun(owner)
    before = chains.history_of(claimed.run_id)
    pause(claimed.chain_id, "taken back")
    resume(claimed.chain_id)
    released(owner, claimed)
    pause(claimed.chain_id, "for lunch")
    dispatch.rows().update(wakeup_at=clock.now())
    (again,) = chains.claim(owner)
    assert settle(owner, again) is Fate.PAUSED
    assert chains.history_of(claimed.run_id) == [*before, "RunPaused"]
    assert durable.get_workflow("it").history()[-1].data == {"reason": "for lunch"}


def test_what_has_not_been_paused_sleeps_until_it_is_to_wake() -> None:
    owner = chains.worker()
    claimed = begun(owner)
    released(owner, claimed)
    assert chains.claim(owner) == []


@pytest.mark.server
def test_open_senders_keep_nobody_from_pausing() -> None:
    chain = chains.sleeping(workflow_id="it")
    with paused(lambda: chains.send(chain)):
        assert durable.pause_workflow("it")
    assert Dispatch.objects.get().hold == "paused"
    assert chains.waiting(chain) == ["ping"]


@pytest.mark.server
def test_a_pause_waits_for_a_claim_that_is_under_way_and_tells_the_new_owner() -> None:
    chain = chains.start("it")
    owner = chains.worker()
    with paused(lambda: chains.claim(owner)) as claim:
        assert pause(chain) is Held.BUSY
        claim.commit()
        assert durable.pause_workflow("it")
    row = Dispatch.objects.get()
    assert (row.owner, row.hold) == (owner, "paused")
    assert len(inbox.read([chain])[chain]) == 1


@pytest.mark.server
def test_a_claim_waits_for_nobody_who_pauses() -> None:
    chain = chains.start("it")
    with paused(lambda: holds.pause(chain, "")):
        assert chains.claim(chains.worker()) == []
    assert chains.claim(chains.worker("two")) == []


@pytest.mark.server
def test_a_row_that_stays_locked_is_an_error_and_not_a_wait_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "PATIENCE", 0.1)
    chain = chains.start("it")
    with (
        paused(lambda: dispatch.locked_for_end([chain])),
        pytest.raises(DurableError, match="could not be paused"),
    ):
        durable.pause_workflow("it")


@pytest.mark.server
def test_a_pause_in_a_transaction_that_is_rolled_back_is_none() -> None:
    chain = chains.start("it")
    with paused(lambda: holds.pause(chain, "")) as other:
        other.rollback()
    assert Dispatch.objects.get().hold is None
    assert durable.get_workflow_status("it").status == "pending"
