"""Governed queues: never more are let in than the limit, whoever dies, and keys take their turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_durable import Rate, durable
from django_durable.definitions.queue import ACTIVITIES, WORKFLOWS, Counted
from django_durable.models import ActivityTask, Dispatch, QueueKey
from django_durable.store import admission, clock, database, dispatch, identifiers, levels, look, tasks
from django_durable.worker import maintenance
from tests.integration.store import chains
from tests.integration.store.sessions import all_at_once, paused

pytestmark = pytest.mark.django_db(transaction=True)

QUEUE = "mail"
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@dataclass
class Line:
    """Work of one kind in the queue: what it counts is put in, claimed and ended by the same words."""

    kind: Counted
    put_in: int = 0

    def limit(self, **limits: Any) -> None:
        durable.set_queue(QUEUE, counts=self.kind, **limits)

    def put(self, key: str = "", times: int = 1, **changes: Any) -> None:
        """Add work of a key, after all that is there already."""
        for _ in range(times):
            self.put_in += 1
            when = clock.read() - timedelta(seconds=1000 - self.put_in)
            if self.kind == WORKFLOWS:
                chains.start(queue=QUEUE, partition_key=key, **{"wakeup_at": when, **changes})
            else:
                chain = identifiers.uuid7()
                tasks.insert([_task(chain, key)])
                ActivityTask.objects.filter(chain_id=chain).update(**{"due_at": when, **changes})

    def claim(self, worker: int, limit: int = 100) -> admission.Admitted:
        with database.writing():
            found = levels.probe([QUEUE])
            for level in found.chains if self.kind == WORKFLOWS else found.tasks:
                if self.kind == WORKFLOWS:
                    return admission.claim_chains(worker, level, definitions=[chains.DEFINITION], limit=limit)
                return admission.claim_tasks(worker, level, names=["tests.activity"], limit=limit)
            return admission.Admitted([])

    def keys(self, admitted: admission.Admitted) -> list[str]:
        """Whose they are, in no order."""
        if self.kind == WORKFLOWS:
            return sorted(one.partition_key for one in admitted.claimed)
        ids = [(one.held.chain_id) for one in admitted.claimed]
        return sorted(ActivityTask.objects.filter(chain_id__in=ids).values_list("partition_key", flat=True))

    def inside(self) -> int:
        if self.kind == WORKFLOWS:
            return Dispatch.objects.filter(queue=QUEUE, admitted=True).count()
        return ActivityTask.objects.filter(queue=QUEUE, worker__isnull=False).count()

    def end(self, admitted: admission.Admitted, count: int = 1) -> None:
        """Whoever has these ends ``count`` of them."""
        for one in admitted.claimed[:count]:
            if self.kind == WORKFLOWS:
                Dispatch.objects.filter(pk=one.chain_id).delete()
            else:
                ActivityTask.objects.filter(chain_id=one.held.chain_id).delete()


def _task(chain: Any, key: str) -> tasks.NewTask:
    return tasks.NewTask(
        chain, "a", chain, 2, "w", "tests.activity", QUEUE, 0, "[]", "", None, partition_key=key
    )  # fmt: skip


@pytest.fixture(params=[ACTIVITIES, WORKFLOWS])
def line(request: pytest.FixtureRequest) -> Line:
    return Line(request.param)


@pytest.fixture
def standing_clock() -> Iterator[None]:
    clock.stand_still_at(NOON)
    yield
    clock.stand_still_at(None)


def test_workers_that_come_together_let_in_no_more_than_the_limit(line: Line) -> None:
    line.put(times=30)
    line.limit(concurrency=7)
    workers = [chains.worker(str(number)) for number in range(4)]

    def claim_all(worker: int) -> int:
        return sum(len(line.claim(worker, limit=2).claimed) for _ in range(10))

    shares = all_at_once([lambda worker=worker: claim_all(worker) for worker in workers])  # type: ignore[misc]

    assert sum(shares) + len(line.claim(workers[0]).claimed) == 7 == line.inside()


@pytest.mark.postgres
def test_who_finds_the_line_locked_waits_for_nobody_and_comes_again(line: Line) -> None:
    line.put(times=4)
    line.limit(concurrency=3)
    first, second = chains.worker("first"), chains.worker("second")

    with paused(lambda: line.claim(first, limit=1)) as other:
        admitted = line.claim(second)
        assert admitted.claimed == []
        assert admitted.again_at is not None
        other.commit()

    assert len(line.claim(second).claimed) == 2


@pytest.mark.postgres
def test_a_queue_that_somebody_is_about_to_change_is_served_by_its_rules_of_before(line: Line) -> None:
    line.put(times=4)
    line.limit(concurrency=2)

    with paused(lambda: line.limit(concurrency=4)):
        assert len(line.claim(chains.worker()).claimed) == 2

    assert len(line.claim(chains.worker()).claimed) == 2


def test_what_ends_lets_in_as_many(line: Line) -> None:
    line.put(times=5)
    line.limit(concurrency=3)
    worker = chains.worker()
    first = line.claim(worker)
    assert first.held_back

    line.end(first, 2)

    assert (len(first.claimed), len(line.claim(worker).claimed), line.inside()) == (3, 2, 3)


def test_a_limit_below_what_is_running_lets_nothing_in_until_enough_has_ended(line: Line) -> None:
    line.put(times=8)
    line.limit(concurrency=4)
    worker = chains.worker()
    first = line.claim(worker)
    line.limit(concurrency=2)

    line.end(first, 2)
    assert line.claim(worker).claimed == []
    line.end(line.claim(worker))
    line.end(first._replace(claimed=first.claimed[2:]))

    assert (len(line.claim(worker).claimed), line.inside()) == (1, 2)


def test_a_worker_that_dies_gives_back_what_it_was_let_in_with(line: Line) -> None:
    line.put(times=5)
    line.limit(concurrency=2)
    lost, worker = chains.worker("lost"), chains.worker("worker")
    had = {_id(one) for one in line.claim(lost).claimed}

    chains.die(lost)
    maintenance.recover()

    after = line.claim(worker)
    assert len(had) == len(after.claimed) == line.inside() == 2
    if line.kind == WORKFLOWS:  # they have begun, and keep their places
        assert {_id(one) for one in after.claimed} == had


def _id(claimed: Any) -> Any:
    return claimed.chain_id if hasattr(claimed, "chain_id") else claimed.held.chain_id


def test_each_worker_has_a_limit_of_its_own(line: Line) -> None:
    line.put(times=10)
    line.limit(concurrency=5, concurrency_per_worker=3)

    shares = [len(line.claim(chains.worker(name)).claimed) for name in ("one", "two", "three")]

    assert shares == [3, 2, 0]


def test_each_key_has_a_limit_of_its_own_and_no_key_is_one_too(line: Line) -> None:
    for key, times in (("a", 5), ("b", 1), ("", 3)):
        line.put(key, times)
    line.limit(concurrency_per_key=2)
    worker = chains.worker()

    admitted = line.claim(worker)

    assert line.keys(admitted) == ["", "", "a", "a", "b"]
    assert admitted.held_back
    assert line.claim(worker).claimed == []


def test_keys_take_turns_over_the_claims_of_all_workers(line: Line) -> None:
    line.put("noisy", 12)
    for key in ("a", "b", "z"):
        line.put(key, 2)
    line.limit(fair=True)
    workers = [chains.worker(name) for name in ("one", "two")]

    order = [line.keys(line.claim(workers[number % 2], limit=1))[0] for number in range(10)]

    assert order == ["a", "b", "noisy", "z", "a", "b", "noisy", "z", "noisy", "noisy"]


def test_one_claim_deals_as_many_small_ones_would(line: Line) -> None:
    line.put("noisy", 12)
    for key in ("a", "b", "z"):
        line.put(key, 2)
    line.limit(fair=True)
    worker = chains.worker()

    shares = [Counter(line.keys(line.claim(worker, limit=6))) for _ in range(2)]

    assert shares == [{"a": 2, "b": 2, "noisy": 1, "z": 1}, {"noisy": 5, "z": 1}]


def test_a_heavier_key_gets_more_turns_in_a_row_also_across_claims(line: Line) -> None:
    for key in ("a", "big", "c"):
        line.put(key, 10)
    line.limit(fair=True, weights={"big": 3})
    worker = chains.worker()

    order = [line.keys(line.claim(worker, limit=1))[0] for _ in range(10)]

    assert order == ["a", "big", "big", "big", "c", "a", "big", "big", "big", "c"]


def test_more_keys_than_a_claim_looks_at_all_get_their_turn(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "VISITED", 3)
    later: dict[str, Any] = {"wakeup_at" if line.kind == WORKFLOWS else "due_at": clock.read() + timedelta(hours=1)}
    for number in range(10):
        line.put(f"asleep {number}", **later)
    line.put("awake")
    line.limit(fair=True)
    worker = chains.worker()

    claims = [line.claim(worker) for _ in range(5)]

    assert [line.keys(one) for one in claims if one.claimed] == [["awake"]]
    assert all(one.again_at is not None for one in claims[:3])


@pytest.mark.usefixtures("standing_clock")
def test_a_rate_lets_in_what_has_accrued_and_tells_when_the_next_is_due(line: Line) -> None:
    line.put(times=10)
    line.limit(rate=Rate(60, per=timedelta(minutes=1), burst=3))
    worker = chains.worker()

    first, at_once = line.claim(worker), line.claim(worker)
    clock.stand_still_at(NOON + timedelta(seconds=2.5))
    later = line.claim(worker)
    clock.stand_still_at(NOON + timedelta(hours=1))
    rested = line.claim(worker)

    assert [len(one.claimed) for one in (first, at_once, later, rested)] == [3, 0, 2, 3]
    assert at_once.again_at == NOON + timedelta(seconds=1)
    assert later.again_at == NOON + timedelta(seconds=3)


@pytest.mark.usefixtures("standing_clock")
def test_a_clock_that_was_ahead_holds_a_queue_up_for_no_longer_than_its_burst(line: Line) -> None:
    line.put(times=10)
    line.limit(rate=Rate(1, per=timedelta(seconds=10)))
    worker = chains.worker()
    clock.stand_still_at(NOON + timedelta(days=1))
    assert len(line.claim(worker).claimed) == 1

    clock.stand_still_at(NOON)
    assert line.claim(worker).again_at == NOON + timedelta(seconds=10)


@pytest.mark.usefixtures("standing_clock")
def test_each_key_has_a_rate_of_its_own_and_is_forgotten_once_it_owes_nothing(line: Line) -> None:
    for key in ("a", "b"):
        line.put(key, 3)
    line.limit(rate_per_key=Rate(1, per=timedelta(seconds=10)))
    worker = chains.worker()

    first, at_once = line.claim(worker), line.claim(worker)
    assert (line.keys(first), at_once.claimed) == (["a", "b"], [])
    assert first.again_at == at_once.again_at == NOON + timedelta(seconds=10)
    Line.end(line, first, 2)
    clock.stand_still_at(NOON + timedelta(seconds=10))
    line.put("c")
    assert line.keys(line.claim(worker)) == ["a", "b", "c"]
    clock.stand_still_at(NOON + timedelta(minutes=1))
    line.put("d")
    line.claim(worker, limit=1)

    assert QueueKey.objects.count() == 1


def test_what_goes_on_needs_no_room() -> None:
    """Workflows that were let in keep their places while they sleep, and wake up however full their queue is."""
    line = Line(WORKFLOWS)
    line.put(times=3)
    line.limit(concurrency=1)
    worker = chains.worker()
    [first] = line.claim(worker).claimed
    dispatch.release(worker, [dispatch.Release(first.chain_id, first.epoch, None, True)])

    assert line.claim(worker).claimed == []
    dispatch.make_due([first.chain_id])

    assert [one.chain_id for one in line.claim(worker).claimed] == [first.chain_id]


def test_workflows_that_have_begun_when_a_limit_is_set_are_counted() -> None:
    line = Line(WORKFLOWS)
    line.put(times=3)
    worker = chains.worker()
    chains.claim(worker, limit=2, queue=QUEUE)

    line.limit(concurrency=2)

    assert line.claim(worker).claimed == []
    assert line.inside() == 2


def test_an_activity_that_is_completed_from_outside_or_tried_again_later_keeps_no_room() -> None:
    line = Line(ACTIVITIES)
    line.put(times=4)
    line.limit(concurrency=2)
    worker = chains.worker()
    outside, later = line.claim(worker).claimed
    with database.writing():
        tasks.leave_outside(outside.held)
        tasks.retry(later.held, delay=timedelta(hours=1), failure="{}")

    assert len(line.claim(worker).claimed) == 2


def test_a_paused_queue_gives_nothing_even_to_who_has_not_heard_of_it(line: Line) -> None:
    line.put(times=2)
    line.limit(concurrency=2)
    durable.pause_queue(QUEUE, "maintenance of the mail server")

    assert line.claim(chains.worker()).claimed == []
    assert durable.get_queue(QUEUE).reason == "maintenance of the mail server"


def test_a_look_knows_when_a_sleeper_is_due_though_something_waits_for_a_place() -> None:
    line = Line(kind=WORKFLOWS)
    line.limit(concurrency=1)
    line.put(admitted=True, epoch=1, wakeup_at=NOON)
    line.put(times=2)
    wanted = look.Wanted(
        worker=chains.worker(),
        queues=(QUEUE,),
        definitions=[chains.DEFINITION],
        runs=9,
        suspects=0,
        activities=(),
        messages=False,
    )

    seen = look.look(wanted)

    assert (seen.runs, seen.held_back, seen.next_due) == ([], {QUEUE: None}, NOON)
