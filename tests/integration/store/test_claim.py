"""Claim: who gets a due chain, and what a claim must not take or wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from django_durable.store import claims, clock, database, dispatch, levels, missing
from django_durable.store.claims import SUSPECT_AFTER, Claimed
from tests.integration.store import chains
from tests.integration.store.sessions import Elsewhere, Session, all_at_once, paused

pytestmark = pytest.mark.django_db(transaction=True)


def ids(mine: list[Claimed]) -> list[object]:
    return [claimed.chain_id for claimed in mine]


def test_claimers_that_come_together_never_get_the_same_chain() -> None:
    everything = {chains.start() for _ in range(40)}
    workers = [chains.worker(str(number)) for number in range(4)]

    def claim_all(owner: int) -> list[object]:
        mine: list[object] = []
        while claimed := chains.claim(owner, limit=3):
            mine += ids(claimed)
        return mine

    shares = all_at_once([lambda owner=owner: claim_all(owner) for owner in workers])  # type: ignore[misc]

    taken = [chain for share in shares for chain in share]
    assert sorted(map(str, taken)) == sorted(map(str, everything))
    for owner, share in zip(workers, shares, strict=True):
        assert set(dispatch.owned(owner)) == set(share)


@pytest.mark.server
def test_a_claim_skips_what_an_open_claim_has() -> None:
    everything = {chains.start() for _ in range(4)}
    first, second = chains.worker("first"), chains.worker("second")

    with paused(lambda: chains.claim(first, limit=2)) as other:
        mine = chains.claim(second)
        theirs = other.commit()

    assert len(mine) == len(theirs) == 2
    assert set(ids(mine)) | set(ids(theirs)) == everything


def test_each_claim_increments_the_epoch() -> None:
    owner = chains.worker()
    chain = chains.start()

    epochs = []
    for _ in range(3):
        [claimed] = chains.claim(owner)
        epochs.append((claimed.epoch, chains.row(chain).epoch))
        dispatch.release(owner, [dispatch.Release(chain, claimed.epoch, clock.read(), True)])

    assert epochs == [(1, 1), (2, 2), (3, 3)]


def test_only_the_first_claim_sets_the_time_of_the_start() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    started_at = chains.row(claimed.chain_id).started_at
    assert started_at is not None

    dispatch.release(owner, [dispatch.Release(claimed.chain_id, claimed.epoch, clock.read(), True)])
    chains.claim(owner)

    assert chains.row(claimed.chain_id).started_at == started_at


def test_a_claim_takes_what_is_due_and_nothing_else() -> None:
    owner = chains.worker()
    later = clock.read() + timedelta(hours=1)
    due = chains.start()
    chains.start(wakeup_at=later)
    chains.sleeping()
    chains.start(owner=chains.worker("other"))

    assert ids(chains.claim(owner)) == [due]


def test_a_claim_ignores_the_hold_because_due_is_due() -> None:
    held = chains.start(hold="blocked")

    [claimed] = chains.claim(chains.worker())

    assert (claimed.chain_id, claimed.hold) == (held, "blocked")


def test_a_claim_takes_only_queues_that_the_worker_serves() -> None:
    owner = chains.worker()
    here, there = chains.start(), chains.start(queue="elsewhere")

    assert ids(chains.claim(owner)) == [here]
    assert ids(chains.claim(owner, queue="elsewhere")) == [there]


def test_a_claim_takes_only_definitions_and_versions_that_the_worker_has() -> None:
    owner = chains.worker()
    chains.start(definition=f"{chains.DEFINITION}\t2")
    chains.start(definition="tests.unknown")
    known = chains.start()

    assert ids(chains.claim(owner)) == [known]


def test_higher_priorities_come_first_and_within_one_the_longest_due() -> None:
    now = clock.read()
    expected = [
        chains.start(priority=priority, wakeup_at=now - timedelta(seconds=seconds))
        for priority, seconds in ((7, 1), (0, 300), (0, 200), (-3, 900))
    ]

    taken = [ids(chains.claim(chains.worker(), limit=1))[0] for _ in expected]

    assert taken == expected


def test_one_claim_fills_up_from_lower_priorities() -> None:
    high = [chains.start(priority=5) for _ in range(2)]
    chains.start(priority=1)

    taken = chains.claim(chains.worker(), limit=3)

    assert ids(taken)[:2] == high
    assert len(taken) == 3


def test_priorities_are_those_of_chains_that_may_become_due() -> None:
    chains.start(priority=5)
    chains.start(priority=5)
    chains.start(priority=-1, wakeup_at=clock.read() + timedelta(days=1))
    chains.sleeping(priority=9)
    chains.start(priority=8, queue="elsewhere")

    waiting, *_ = levels.probe(["default"])

    assert [level.priority for level in waiting] == [5, -1]


def test_a_run_that_was_recovered_twice_without_progress_is_claimed_only_when_asked_for() -> None:
    owner = chains.worker()
    harmless, suspect = chains.start(recoveries=1), chains.start(recoveries=SUSPECT_AFTER)

    assert ids(chains.claim(owner)) == [harmless]
    assert ids(chains.claim(owner, limit=1, suspects=True)) == [suspect]


@pytest.mark.server
def test_a_claim_neither_waits_for_nor_skips_a_chain_that_a_sender_has(session: Session) -> None:
    chain = chains.start()
    session.hold_open(chain)

    assert ids(chains.claim(chains.worker())) == [chain]


@pytest.mark.server
def test_a_claim_skips_a_chain_that_is_being_ended(session: Session) -> None:
    ending, other = chains.start(), chains.start()
    session.lock_for_end(ending)

    assert ids(chains.claim(chains.worker())) == [other]


def test_due_runs_that_no_live_worker_has_are_pushed_back_and_reported() -> None:
    strange = [chains.start(definition="tests.gone") for _ in range(2)]
    known = chains.start()

    (untaken,) = missing.push_back([chains.DEFINITION])
    assert (untaken.definition, untaken.due, sorted(untaken.blocked)) == ("tests.gone", 2, sorted(strange))

    assert all(chains.row(chain).wakeup_at > clock.read() + timedelta(seconds=20) for chain in strange)  # type: ignore[operator]
    assert ids(chains.claim(chains.worker())) == [known]


@pytest.mark.server
def claim_of_a_worker_that_has_other_code() -> None:
    with database.writing():
        for level in levels.probe(["default"])[0]:
            assert claims.claim(0, level, definitions=["tests.other"], limit=100) == []


def claim_of_what_a_queue_has_let_in() -> None:
    with database.writing():
        for level in levels.probe(["default"])[0]:
            assert claims.claim(0, level, definitions=[chains.DEFINITION], limit=100, admitted=True) == []


def search_for_runs_that_no_worker_has() -> None:
    missing.push_back([chains.DEFINITION])


@pytest.mark.parametrize(
    "look",
    [
        claim_of_a_worker_that_has_other_code,
        claim_of_what_a_queue_has_let_in,
        search_for_runs_that_no_worker_has,
    ],
)
def test_who_looks_for_other_runs_hides_none_from_claims(look: Callable[[], None]) -> None:
    """MariaDB locks whatever a locking search reads, and who has passed by it is not told to look again."""
    owner, over = chains.worker(), threading.Event()

    def search() -> None:
        while not over.is_set():
            look()

    searching = Elsewhere(search)
    try:
        for _ in range(200):
            chain = chains.start()
            assert ids(chains.claim(owner)) == [chain]
    finally:
        over.set()
        searching.result()


def test_due_runs_that_no_live_worker_has_are_found_in_every_queue_and_priority() -> None:
    places = [("default", 0), ("default", 7), ("mail", -3), ("night", 0)]
    strange = [chains.start(definition="tests.gone", queue=queue, priority=priority) for queue, priority in places]
    later = chains.start(definition="tests.gone", wakeup_at=clock.read() + timedelta(hours=1))

    assert [(one.definition, one.due) for one in missing.push_back([chains.DEFINITION])] == [("tests.gone", 4)]

    pushed = [chains.row(chain).wakeup_at for chain in strange]
    assert all(moment is not None and moment > clock.read() + timedelta(seconds=20) for moment in pushed)
    assert missing.push_back([chains.DEFINITION]) == []
    assert chains.row(later).wakeup_at > clock.read() + timedelta(minutes=50)  # type: ignore[operator]


def test_what_any_other_code_has_blocked_is_offered_but_not_what_nobodys_code_has() -> None:
    """Codes that sort before and after the one that asks; a run that is parked for its crashes is no code's."""
    owner = chains.worker()
    parked = {}
    for code in ("aaa", "mmm", "zzz", ""):
        parked[code] = chains.owned(owner).chain_id
        dispatch.park(owner, parked[code], blocked_by=code, delay=timedelta(hours=1))

    assert dispatch.offer_blocked(chains.DEFINITION, ["mmm"]) == 2
    assert dispatch.offer_blocked(chains.DEFINITION, ["mmm"]) == 0

    assert set(ids(chains.claim(owner))) == {parked["aaa"], parked["zzz"]}


def test_a_blocked_run_is_offered_to_other_code_at_once_and_not_to_the_code_that_blocked_it() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    assert dispatch.park(owner, claimed.chain_id, blocked_by="old code", delay=timedelta(hours=1))
    assert chains.claim(owner) == []

    assert dispatch.offer_blocked(chains.DEFINITION, ["old code"]) == 0
    assert chains.claim(owner) == []
    assert dispatch.offer_blocked(chains.DEFINITION, ["new code"]) == 1
    assert ids(chains.claim(owner)) == [claimed.chain_id]


@pytest.mark.server
def test_offering_blocked_runs_waits_for_no_row_that_a_caller_holds(session: Session) -> None:
    later = clock.read() + timedelta(hours=1)
    busy, free = (chains.start(hold="blocked", blocked_by="old code", wakeup_at=later) for _ in range(2))
    session.lock_for_end(busy)

    assert dispatch.offer_blocked(chains.DEFINITION, ["new code"]) == 1

    assert ids(chains.claim(chains.worker())) == [free]
