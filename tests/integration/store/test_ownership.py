"""Who may write a run's history: its owner, and terminate under its owner's feet."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, transaction

from django_durable import WorkflowNotFound, durable
from django_durable.history import events
from django_durable.history.status import Status
from django_durable.models import ActivityTask
from django_durable.store import claims, clock, database, dispatch, flush, history, outages, runs
from tests.integration.store import chains
from tests.integration.store.sessions import Elsewhere, all_at_once, paused

pytestmark = pytest.mark.django_db(transaction=True)


def eventless(claimed: claims.Claimed, **more: Any) -> flush.RunWrite:
    """A write that no primary key protects."""
    return chains.write(claimed, events=0, spilled=(chains.task(claimed),), **more)


def test_a_write_without_an_event_is_conditional_on_the_owner() -> None:
    owner, other = chains.worker("owner"), chains.worker("other")
    claimed = chains.owned(owner)

    assert chains.verdicts(flush.flush(other, [eventless(claimed)])) == ["gone"]
    assert ActivityTask.objects.count() == 0

    assert chains.verdicts(flush.flush(owner, [eventless(claimed)])) == ["written"]
    assert ActivityTask.objects.count() == 1


def test_a_write_without_an_event_is_conditional_on_the_epoch() -> None:
    owner = chains.worker()
    before = chains.owned(owner)
    dispatch.release(owner, [dispatch.Release(before.chain_id, before.epoch, clock.read(), True)])
    chains.claim(owner)

    assert chains.verdicts(flush.flush(owner, [eventless(before)])) == ["gone"]
    assert ActivityTask.objects.count() == 0


def test_a_write_without_an_event_for_a_released_run_is_refused() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    dispatch.release(owner, [dispatch.Release(claimed.chain_id, claimed.epoch, None, True)])

    assert chains.verdicts(flush.flush(owner, [eventless(claimed)])) == ["gone"]


def test_an_end_is_conditional_on_the_owner_and_the_epoch() -> None:
    owner, other = chains.worker("owner"), chains.worker("other")
    claimed = chains.owned(owner)

    assert chains.verdicts(flush.flush(other, [chains.write(claimed, ends=True)])) == ["gone"]
    stale = claimed._replace(epoch=claimed.epoch - 1)
    assert chains.verdicts(flush.flush(owner, [chains.write(stale, ends=True)])) == ["gone"]

    assert chains.history_of(claimed.run_id) == ["RunStarted"]


def test_an_owner_whose_place_is_taken_is_told_to_read_again() -> None:
    """The dense primary key: whoever comes second writes nothing, not even for other runs of its batch."""
    owner = chains.worker()
    claimed, other = chains.owned(owner), chains.owned(owner)
    history.append([chains.event(claimed.run_id, 2)])

    with pytest.raises(IntegrityError):
        flush.flush(owner, [chains.write(other), chains.write(claimed)])

    assert chains.history_of(other.run_id) == ["RunStarted"]


def test_two_workers_that_both_think_they_own_a_run_write_one_event() -> None:
    """Should everything else fail."""
    one, two = chains.worker("one"), chains.worker("two")
    claimed = chains.owned(one)

    def append(owner: int) -> str:
        try:
            return chains.verdicts(flush.flush(owner, [chains.write(claimed)]))[0]
        except (IntegrityError, OperationalError):
            return "refused"

    assert sorted(all_at_once([lambda: append(one), lambda: append(two)])) == ["refused", "written"]
    assert chains.history_of(claimed.run_id) == ["RunStarted", "TimerStarted"]


# Terminate


def test_terminate_ends_a_run_under_its_owners_feet() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner, workflow_id="stuck")
    chains.send(claimed.chain_id)

    assert durable.terminate_workflow("stuck", "enough") is True

    assert chains.history_of(claimed.run_id) == ["RunStarted", "RunTerminated"]
    assert chains.run_of(claimed.chain_id).status == Status.TERMINATED
    assert set(chains.everything_stored()) == {"workflowrun", "historyevent", "worker"}


def test_the_owner_of_a_terminated_run_is_refused_and_drops_it() -> None:
    owner = chains.worker()
    claimed, other = chains.owned(owner, workflow_id="stuck"), chains.owned(owner)
    durable.terminate_workflow("stuck")
    batch = [chains.write(claimed), chains.write(other)]

    with pytest.raises(IntegrityError):
        flush.flush(owner, batch)

    assert chains.verdicts(flush.flush(owner, batch, cautious=True)) == ["gone", "written"]
    assert chains.history_of(claimed.run_id) == ["RunStarted", "RunTerminated"]
    assert chains.history_of(other.run_id) == ["RunStarted", "TimerStarted"]


def test_an_end_or_an_eventless_write_of_a_terminated_run_is_refused() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner, workflow_id="stuck")
    durable.terminate_workflow("stuck")

    assert chains.verdicts(flush.flush(owner, [eventless(claimed)])) == ["gone"]
    assert chains.verdicts(flush.flush(owner, [chains.write(claimed, ends=True)])) == ["gone"]
    dispatch.release(owner, [dispatch.Release(claimed.chain_id, claimed.epoch, None, True)])

    assert chains.run_of(claimed.chain_id).status == Status.TERMINATED
    assert ActivityTask.objects.count() == 0


def test_what_has_ended_cannot_be_ended_again() -> None:
    chains.start("once")

    assert durable.terminate_workflow("once") is True
    assert durable.terminate_workflow("once") is False
    assert durable.cancel_workflow("once") is False
    with pytest.raises(WorkflowNotFound):
        durable.terminate_workflow("never")


def test_of_two_terminates_that_come_together_one_ends_the_run() -> None:
    chain = chains.start("once")

    ended = all_at_once([lambda: durable.terminate_workflow("once")] * 2)

    assert sorted(ended) == [False, True]
    assert chains.history_of(chain) == ["RunStarted", "RunTerminated"]


def test_a_terminate_that_is_rolled_back_has_not_happened() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner, workflow_id="spared")
    before = chains.everything_stored()

    with transaction.atomic():
        assert durable.terminate_workflow("spared")
        transaction.set_rollback(True)

    assert chains.everything_stored() == before
    assert chains.verdicts(flush.flush(owner, [chains.write(claimed)])) == ["written"]


@pytest.mark.server
def test_terminate_itself_waits_for_no_sender_but_its_caller_tries_again() -> None:
    chain = chains.start("busy")
    event = events.RunTerminated()

    with paused(lambda: chains.send(chain)) as sender:
        with database.writing():
            assert not runs.terminate(chain, event, chains.RESULT)
        terminating = Elsewhere(lambda: durable.terminate_workflow("busy"))
        sender.commit()

    assert terminating.result() is True


@pytest.mark.server
def test_an_event_of_the_owner_that_comes_first_is_kept_and_the_end_follows_it() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner, workflow_id="stuck")

    with transaction.atomic():
        history.append([chains.event(claimed.run_id, 2)])
        terminating = Elsewhere(lambda: durable.terminate_workflow("stuck"))
        terminating.wait_until_blocked()

    assert terminating.result() is True
    assert chains.history_of(claimed.run_id) == ["RunStarted", "TimerStarted", "RunTerminated"]


@pytest.mark.server
@pytest.mark.parametrize(("commits", "verdict"), [(True, "gone"), (False, "written")])
def test_a_terminate_in_a_callers_open_transaction_holds_up_its_own_run_only(commits: bool, verdict: str) -> None:
    owner = chains.worker()
    ending, other = chains.owned(owner, workflow_id="ending"), chains.owned(owner)
    batch = [chains.write(ending), chains.write(other)]

    with paused(lambda: durable.terminate_workflow("ending")) as caller:
        with pytest.raises(OperationalError) as refused:
            flush.flush(owner, batch)
        assert outages.is_conflict(refused.value)
        assert chains.verdicts(flush.flush(owner, batch, cautious=True)) == ["busy", "written"]
        caller.commit() if commits else caller.rollback()

    assert chains.verdicts(flush.flush(owner, batch[:1], cautious=True)) == [verdict]
