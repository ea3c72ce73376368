"""Spilled activities: task rows, claimed by any worker, written under (worker, attempt) alone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_durable.history import messages
from django_durable.models import ActivityTask
from django_durable.store import clock, database, delivery, dispatch, flush, inbox, tasks
from tests.integration.store import chains
from tests.integration.store.sessions import Session, all_at_once, paused

pytestmark = pytest.mark.django_db(transaction=True)


def the_task() -> ActivityTask:
    return ActivityTask.objects.get()


def deliver(*reports: delivery.Report) -> set[tasks.Held]:
    """Report attempts as their worker does; returns those that are to be tried again."""
    with database.writing():
        busy, _ = delivery.deliver(reports)
    return busy


def result(held: tasks.Held) -> delivery.Report:
    return delivery.Report(held=held, outcome=messages.ActivityResult(key=held.key, attempts=held.attempt))


# Rows


def test_a_task_is_written_with_its_event_or_not_at_all() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    chains.send(claimed.chain_id)
    spilling = chains.write(claimed, spilled=(chains.task(claimed),))

    assert chains.verdicts(flush.flush(owner, [spilling])) == ["written"]

    assert the_task().key == "a"
    assert chains.history_of(claimed.run_id) == ["RunStarted", "TimerStarted"]


def test_the_tasks_of_a_run_that_ends_are_not_written() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)

    flush.flush(owner, [chains.write(claimed, ends=True, spilled=(chains.task(claimed),))])

    assert ActivityTask.objects.count() == 0


def test_a_cancelled_activitys_task_goes_with_the_event_that_gives_it_up() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    tasks.insert([chains.task(claimed, "a"), chains.task(claimed, "b")])

    flush.flush(owner, [chains.write(claimed, cancelled=("a",))])

    assert the_task().key == "b"


# Claims


def test_claimers_that_come_together_never_get_the_same_task() -> None:
    claimed = chains.owned(chains.worker("owner"))
    tasks.insert([chains.task(claimed, str(number)) for number in range(30)])
    workers = [chains.worker(str(number)) for number in range(3)]

    def claim_all(holder: int) -> list[str]:
        mine: list[str] = []
        while found := chains.claim_tasks(holder, limit=4):
            mine += [one.key for one in found]
        return mine

    shares = all_at_once([lambda holder=holder: claim_all(holder) for holder in workers])  # type: ignore[misc]

    assert sorted(key for share in shares for key in share) == sorted(str(number) for number in range(30))


@pytest.mark.server
def test_a_claim_skips_what_an_open_claim_has() -> None:
    claimed = chains.owned(chains.worker("owner"))
    tasks.insert([chains.task(claimed, key) for key in "abcd"])
    one, two = chains.worker("one"), chains.worker("two")

    with paused(lambda: chains.claim_tasks(one, limit=2)) as other:
        mine = chains.claim_tasks(two)
        theirs = other.commit()

    assert sorted(held.key for held in [*mine, *theirs]) == ["a", "b", "c", "d"]


def test_a_claim_takes_what_is_due_of_the_activities_that_the_worker_has() -> None:
    claimed = chains.owned(chains.worker("owner"))
    tasks.insert(
        [
            chains.task(claimed, "due"),
            chains.task(claimed, "later", delay=timedelta(hours=1)),
            chains.task(claimed, "unknown", name="tests.other"),
            chains.task(claimed, "elsewhere", queue="elsewhere"),
        ]
    )

    assert [held.key for held in chains.claim_tasks(chains.worker())] == ["due"]


def test_tasks_of_higher_priority_come_first() -> None:
    claimed = chains.owned(chains.worker("owner"))
    tasks.insert([chains.task(claimed, key, priority=priority) for key, priority in (("b", 1), ("a", 7), ("c", -2))])

    assert [held.key for held in chains.claim_tasks(chains.worker())] == ["a", "b", "c"]


def test_a_claim_counts_the_attempt_and_sets_its_deadline() -> None:
    holder = chains.worker()
    before = clock.read()

    held = chains.held(holder, chains.owned(chains.worker("owner")), start_to_close=timedelta(seconds=60))

    task = the_task()
    assert (held.attempt, task.attempt, task.worker) == (1, 1, holder)
    assert task.deadline is not None
    assert before + timedelta(seconds=60) <= task.deadline <= clock.read() + timedelta(seconds=60)


# Under (worker, attempt) alone


def test_a_retry_is_conditional_on_the_worker_and_the_attempt() -> None:
    holder, other = chains.worker("holder"), chains.worker("other")
    held = chains.held(holder, chains.owned(chains.worker("owner")))

    for wrong in (held._replace(worker=other), held._replace(attempt=2)):
        assert tasks.retry(wrong, delay=timedelta(0), failure="{}") is False
        assert tasks.give_back(wrong) is False
    assert the_task().worker == holder

    assert tasks.retry(held, delay=timedelta(0), failure="{}") is True
    assert chains.claim_tasks(other) == [held._replace(worker=other, attempt=2)]


def test_a_task_that_was_not_executed_is_given_back_without_counting_the_attempt() -> None:
    holder = chains.worker()
    held = chains.held(holder, chains.owned(chains.worker("owner")))

    assert tasks.give_back(held) is True

    assert chains.claim_tasks(holder) == [held]


def test_a_result_of_an_attempt_that_was_taken_over_is_dropped() -> None:
    claimed = chains.owned(chains.worker("owner"))
    held = chains.held(chains.worker("slow"), claimed)
    tasks.retry(held, delay=timedelta(0), failure="{}")  # its deadline has passed
    [taken] = chains.claim_tasks(chains.worker("quick"))

    assert deliver(result(held)) == set()

    assert the_task().worker == taken.worker
    assert chains.everything_stored().get("inboxmessage") is None


def test_a_result_reaches_the_run_as_a_message_as_its_task_row_goes() -> None:
    claimed = chains.owned(chains.worker("owner"))
    held = chains.held(chains.worker("holder"), claimed)

    assert deliver(result(held)) == set()

    [message] = inbox.read([claimed.chain_id])[claimed.chain_id]
    assert message.message == messages.ActivityResult(key="a", attempts=1)
    assert ActivityTask.objects.count() == 0


def test_a_result_for_a_chain_that_has_ended_is_dropped() -> None:
    owner = chains.worker("owner")
    claimed = chains.owned(owner)
    held = chains.held(chains.worker("holder"), claimed)
    chains.end(owner, claimed)

    assert deliver(result(held)) == set()
    assert chains.everything_stored().get("inboxmessage") is None


# The owner's own flush finishes a task


def test_an_owner_finishes_the_task_whose_result_it_writes() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    held = chains.held(owner, claimed)

    assert chains.verdicts(flush.flush(owner, [chains.write(claimed, finished=(held,))])) == ["written"]

    assert ActivityTask.objects.count() == 0


def test_an_owner_whose_task_was_taken_over_does_it_again_without_that_result() -> None:
    owner = chains.worker()
    claimed, other = chains.owned(owner), chains.owned(owner)
    held = chains.held(owner, claimed)
    tasks.retry(held, delay=timedelta(0), failure="{}")
    [taken] = chains.claim_tasks(chains.worker("quick"))

    outcome = flush.flush(owner, [chains.write(claimed, finished=(held,)), chains.write(other)])

    assert chains.verdicts(outcome) == ["redo", "written"]
    assert outcome.lost == {held}
    assert the_task().worker == taken.worker
    assert chains.history_of(claimed.run_id) == ["RunStarted"]


@pytest.mark.server
def test_a_task_that_is_only_locked_is_busy_and_not_lost(session: Session) -> None:
    """A sweep that looks at the deadline has it for a moment; its result must not be thrown away for that."""
    owner = chains.worker()
    claimed, other = chains.owned(owner), chains.owned(owner)
    held = chains.held(owner, claimed)
    batch = [chains.write(claimed, finished=(held,)), chains.write(other)]
    session.execute("SELECT 1 FROM durable_activitytask FOR UPDATE")

    outcome = flush.flush(owner, batch)
    assert (chains.verdicts(outcome), outcome.lost) == (["busy", "written"], set())

    session.rollback()
    assert chains.verdicts(flush.flush(owner, batch[:1])) == ["written"]


# Busy rows


@pytest.mark.server
def test_a_result_whose_task_is_locked_is_tried_again(session: Session) -> None:
    claimed = chains.owned(chains.worker("owner"))
    held = chains.held(chains.worker("holder"), claimed)
    session.execute("SELECT 1 FROM durable_activitytask FOR UPDATE")

    assert deliver(result(held)) == {held}

    session.rollback()
    assert deliver(result(held)) == set()
    assert ActivityTask.objects.count() == 0


@pytest.mark.server
def test_a_result_whose_chain_is_being_ended_is_tried_again(session: Session) -> None:
    claimed = chains.owned(chains.worker("owner"))
    held = chains.held(chains.worker("holder"), claimed)
    session.lock_for_end(claimed.chain_id)

    assert deliver(result(held)) == {held}
    assert ActivityTask.objects.count() == 1


@pytest.mark.server
def test_a_retry_whose_run_a_caller_is_ending_holds_up_no_other_report(session: Session) -> None:
    holder, owner = chains.worker("holder"), chains.worker("owner")
    ending, going = chains.owned(owner), chains.owned(owner)
    failed, done = chains.held(holder, ending), chains.held(holder, going)
    session.execute("DELETE FROM durable_activitytask WHERE chain_id = %s", ending.chain_id)

    busy = deliver(delivery.Report(held=failed, failure="{}"), result(done))

    assert busy == {failed}
    assert [one.id for one in inbox.read([going.chain_id])[going.chain_id]]


# Deadlines


def test_an_attempt_that_has_passed_its_deadline_is_found_whoever_has_it() -> None:
    claimed = chains.owned(chains.worker("owner"))
    grace = tasks.OVERDUE_GRACE.total_seconds()
    chains.held(chains.worker("late"), claimed, "late", start_to_close=timedelta(seconds=-grace - 1))
    chains.held(chains.worker("lively"), claimed, "lively", start_to_close=timedelta(hours=1))
    chains.held(chains.worker("endless"), claimed, "endless", start_to_close=None)

    with database.writing():
        assert [task.key for task in tasks.overdue()] == ["late"]


@pytest.mark.server
def test_two_sweeps_never_fail_the_same_attempt() -> None:
    claimed = chains.owned(chains.worker("owner"))
    chains.held(chains.worker(), claimed, start_to_close=timedelta(seconds=-60))

    with paused(lambda: [task.key for task in tasks.overdue()]) as other, database.writing():
        assert tasks.overdue() == []
        assert other.commit() == ["a"]


def test_a_run_that_was_released_is_woken_by_a_result() -> None:
    owner = chains.worker("owner")
    claimed = chains.owned(owner)
    held = chains.held(chains.worker("holder"), claimed)
    dispatch.release(owner, [dispatch.Release(claimed.chain_id, claimed.epoch, None, True)])

    with database.writing():
        _, woken = delivery.deliver([result(held)])

    assert woken == {claimed.chain_id}
    assert dispatch.make_due(woken) == 1
