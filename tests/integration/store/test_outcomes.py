"""Atomic activities: one outcome each, and whoever comes second loses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from django.db import IntegrityError, transaction

from django_durable.history import events, messages
from django_durable.history.failures import Failure
from django_durable.models import ActivityOutcome
from django_durable.payloads import payload
from django_durable.store import (
    claims,
    clock,
    database,
    delivery,
    dispatch,
    flush,
    identifiers,
    inbox,
    outcomes,
    recovery,
    runs,
    tasks,
)
from tests.flows.models import Entry
from tests.integration.store import chains
from tests.integration.store.sessions import Elsewhere, paused

pytestmark = pytest.mark.django_db(transaction=True)


def succeed(claim: outcomes.Claim, *, result: str = chains.RESULT) -> str | None:
    """What an atomic attempt does: the user's write, and the outcome as the last statement."""
    with database.writing():
        Entry.objects.create(kind="atomic", key=claim.key, attempt=claim.attempt)
        recorded = outcomes.record_success(claim, result)
        if recorded is None:
            transaction.set_rollback(True)
    return recorded


def by_owner(owner: int, claimed: claims.Claimed, attempt: int = 1) -> outcomes.Claim:
    return outcomes.Claim(claimed.chain_id, "a", owner, attempt)


def settling(claimed: claims.Claimed, **more: Any) -> flush.RunWrite:
    """The workflow is given a timeout, cancellation, interruption or failure of that activity."""
    return chains.write(claimed, settled=("a",), **more)


def effects() -> int:
    return Entry.objects.count()


# By what right


def test_the_runs_owner_may_commit_an_atomic_activity() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)

    assert succeed(by_owner(owner, claimed)) is not None

    stored = outcomes.read([(claimed.chain_id, "a")])
    assert stored == {(claimed.chain_id, "a"): outcomes.Outcome(chains.RESULT, 1)}
    assert effects() == 1


def test_when_the_owner_has_changed_nothing_is_inserted_and_nothing_committed() -> None:
    owner, other = chains.worker("owner"), chains.worker("other")
    claimed = chains.owned(owner)
    dispatch.release(owner, [dispatch.Release(claimed.chain_id, claimed.epoch, clock.read(), True)])
    chains.claim(other)

    assert succeed(by_owner(owner, claimed)) is None

    assert (ActivityOutcome.objects.count(), effects()) == (0, 0)


def test_after_recovery_a_dead_worker_commits_no_atomic_activity() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    chains.die(owner)
    recovery.release_chains([owner])

    assert succeed(by_owner(owner, claimed)) is None
    assert effects() == 0


def test_after_the_end_of_the_chain_nothing_is_committed() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    chains.end(owner, claimed)

    assert succeed(by_owner(owner, claimed)) is None
    assert effects() == 0


def test_the_holder_of_the_task_may_commit_although_the_run_is_not_its_own() -> None:
    claimed = chains.owned(chains.worker("owner"))
    held = chains.held(chains.worker("holder"), claimed)

    assert succeed(outcomes.Claim(*held)) is not None
    assert effects() == 1


def test_the_holder_may_commit_under_its_own_attempt_only() -> None:
    claimed = chains.owned(chains.worker("owner"))
    held = chains.held(chains.worker("holder"), claimed)

    assert succeed(outcomes.Claim(*held._replace(attempt=2))) is None
    assert succeed(outcomes.Claim(*held._replace(worker=held.worker + 1))) is None
    assert succeed(outcomes.Claim(*held._replace(key="b"))) is None

    assert (ActivityOutcome.objects.count(), effects()) == (0, 0)


def test_an_attempt_that_rolls_back_has_no_outcome() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)

    with database.writing():
        assert outcomes.record_success(by_owner(owner, claimed), chains.RESULT) is not None
        transaction.set_rollback(True)

    assert outcomes.read([(claimed.chain_id, "a")]) == {}


# Success first


def test_success_first_makes_the_settling_flush_start_over_with_that_success() -> None:
    owner = chains.worker()
    claimed, other = chains.owned(owner), chains.owned(owner)
    succeed(by_owner(owner, claimed, attempt=2))

    result = flush.flush(owner, [settling(claimed), chains.write(other)])

    assert chains.verdicts(result) == ["redo", "written"]
    assert result.succeeded == {(claimed.chain_id, "a"): outcomes.Outcome(chains.RESULT, 2)}
    assert chains.history_of(claimed.run_id) == ["RunStarted"]


def test_success_first_keeps_a_run_from_ending_as_if_it_had_failed() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    succeed(by_owner(owner, claimed))

    assert chains.verdicts(flush.flush(owner, [settling(claimed, ends=True)])) == ["redo"]


def test_of_two_attempts_that_both_succeed_one_is_committed() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    succeed(by_owner(owner, claimed, attempt=2))

    with pytest.raises(IntegrityError):
        succeed(by_owner(owner, claimed, attempt=1))

    assert effects() == 1


def test_an_outcome_stays_until_its_run_ends_for_whoever_owns_it_next() -> None:
    owner, heir = chains.worker("owner"), chains.worker("heir")
    claimed = chains.owned(owner)
    place = claimed.chain_id, f"{claimed.run_id.hex}-2"
    succeed(outcomes.Claim(*place, owner, 1))  # and dies before its group commit
    chains.die(owner)
    recovery.release_chains([owner])
    [again] = chains.claim(heir)

    assert list(outcomes.read([place])) == [place]

    chains.end(heir, again)
    assert ActivityOutcome.objects.count() == 0


def test_outcomes_that_a_run_has_not_seen_outlive_its_end_and_those_of_other_runs_do_too() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    seen, unseen = (f"{claimed.run_id.hex}-{number}" for number in (2, 3))
    older = f"{identifiers.uuid7().hex}-4"
    for key in (seen, unseen, older):
        succeed(outcomes.Claim(claimed.chain_id, key, owner, 1))
    write = chains.write(claimed, ends=True)
    assert write.ending is not None
    ending = write.ending._replace(unseen=(unseen,))
    assert chains.verdicts(flush.flush(owner, [msgspec.structs.replace(write, ending=ending)])) == ["written"]
    assert set(ActivityOutcome.objects.values_list("key", flat=True)) == {unseen, older}


def test_an_end_from_outside_leaves_all_outcomes_because_nobody_knows_which_the_run_has_seen() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    succeed(outcomes.Claim(claimed.chain_id, f"{claimed.run_id.hex}-2", owner, 1))
    with database.writing():
        assert runs.terminate(claimed.chain_id, events.RunTerminated(), "{}") == claimed.run_id
    assert ActivityOutcome.objects.count() == 1


# Settled first


def test_a_settled_activity_refuses_a_late_success() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    assert chains.verdicts(flush.flush(owner, [settling(claimed)])) == ["written"]

    with pytest.raises(IntegrityError):
        succeed(by_owner(owner, claimed))

    assert outcomes.read([(claimed.chain_id, "a")])[claimed.chain_id, "a"].result is None
    assert effects() == 0


def test_settling_twice_is_settling_once() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    flush.flush(owner, [settling(claimed)])
    again = settling(claimed, events=0)

    assert chains.verdicts(flush.flush(owner, [again])) == ["written"]


# Both at once


@pytest.mark.server
def test_a_success_on_its_way_makes_the_settling_flush_wait_for_its_turn_and_for_nothing_else() -> None:
    owner = chains.worker()
    claimed, other = chains.owned(owner), chains.owned(owner)

    with paused(lambda: succeed(by_owner(owner, claimed))) as activity:
        assert chains.verdicts(flush.flush(owner, [settling(claimed), chains.write(other)])) == ["busy", "written"]
        activity.commit()

    assert chains.verdicts(flush.flush(owner, [settling(claimed)])) == ["redo"]
    assert effects() == 1


@pytest.mark.server
def test_a_success_on_its_way_that_rolls_back_leaves_the_activity_to_be_settled() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)

    with paused(lambda: succeed(by_owner(owner, claimed))) as activity:
        activity.rollback()

    assert chains.verdicts(flush.flush(owner, [settling(claimed)])) == ["written"]
    assert effects() == 0


@pytest.mark.server
def test_the_success_of_a_task_holder_on_its_way_is_seen_by_its_task_row() -> None:
    owner, holder = chains.worker("owner"), chains.worker("holder")
    claimed, other = chains.owned(owner), chains.owned(owner)
    held = chains.held(holder, claimed)

    with paused(lambda: succeed(outcomes.Claim(*held))) as activity:
        assert chains.verdicts(flush.flush(owner, [settling(claimed), chains.write(other)])) == ["busy", "written"]
        activity.commit()

    assert chains.verdicts(flush.flush(owner, [settling(claimed)])) == ["redo"]


@pytest.mark.server
def test_a_success_that_meets_the_settling_waits_for_it_and_loses() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)

    with transaction.atomic():
        assert dispatch.locked_for_end([claimed.chain_id])
        outcomes.settle([(claimed.chain_id, "a")])
        activity = Elsewhere(lambda: succeed(by_owner(owner, claimed)))
        activity.wait_until_blocked()

    with pytest.raises(IntegrityError):
        activity.result()
    assert effects() == 0


@pytest.mark.postgres
def test_a_success_that_commits_before_its_run_changes_hands_counts() -> None:
    owner, other = chains.worker("owner"), chains.worker("other")
    claimed = chains.owned(owner)

    with transaction.atomic():
        dispatch.release(owner, [dispatch.Release(claimed.chain_id, claimed.epoch, clock.read(), True)])
        assert len(chains.claim(other)) == 1
        # The old owner is still what everybody sees, and the lock is compatible with that of the claim.
        activity = Elsewhere(lambda: succeed(by_owner(owner, claimed)))
        first = activity.result()

    assert first is not None
    assert outcomes.read([(claimed.chain_id, "a")])[claimed.chain_id, "a"].result == chains.RESULT


@pytest.mark.server
def test_the_end_of_a_chain_does_not_overtake_an_atomic_activity_that_commits() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)

    with paused(lambda: succeed(by_owner(owner, claimed))):
        assert chains.verdicts(flush.flush(owner, [chains.write(claimed, ends=True)])) == ["busy"]


# The same for tasks whose run somebody else owns


def report(held: tasks.Held) -> delivery.Report:
    """The last attempt of an atomic activity has failed."""
    failed = messages.ActivityResult(key=held.key, failure=Failure(type="TimeoutError"), timeout="start_to_close")
    return delivery.Report(held=held, outcome=failed, settles=True)


def results(claimed: claims.Claimed) -> list[messages.Message | messages.Unreadable]:
    return [one.message for one in inbox.read([claimed.chain_id])[claimed.chain_id]]


def test_a_failure_that_is_reported_settles_the_activity() -> None:
    claimed = chains.owned(chains.worker("owner"))
    held = chains.held(chains.worker("holder"), claimed)

    with database.writing():
        assert delivery.deliver([report(held)]) == (set(), {claimed.chain_id})

    assert results(claimed) == [report(held).outcome]
    assert outcomes.read([(claimed.chain_id, "a")])[claimed.chain_id, "a"].result is None


def test_a_failure_that_is_reported_after_a_success_becomes_that_success() -> None:
    claimed = chains.owned(chains.worker("owner"))
    held = chains.held(chains.worker("holder"), claimed)
    succeed(outcomes.Claim(*held))

    with database.writing():
        delivery.deliver([report(held)])

    assert results(claimed) == [messages.ActivityResult(key="a", result=payload.load(chains.RESULT), attempts=1)]


@pytest.mark.server
def test_a_failure_that_is_reported_while_the_success_commits_is_tried_again() -> None:
    claimed = chains.owned(chains.worker("owner"))
    held = chains.held(chains.worker("holder"), claimed)

    with paused(lambda: succeed(outcomes.Claim(*held))) as activity:
        with database.writing():
            assert delivery.deliver([report(held)]) == ({held}, set())
        activity.commit()
        assert results(claimed) == []
