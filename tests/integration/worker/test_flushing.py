"""Group commits: what goes into one, in which order, and what is begun only after it."""

from __future__ import annotations

import pytest

from django_durable import durable
from django_durable.models import ActivityTask, Dispatch
from django_durable.store import flush, look
from django_durable.worker import rota, taking
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


@pytest.fixture
def batches(monkeypatch):
    """Every batch that the engine has tried to write."""
    noted = []
    original = flush.flush

    def note(worker, writes, **options):
        noted.append(list(writes))
        return original(worker, writes, **options)

    monkeypatch.setattr(flush, "flush", note)
    return noted


def test_an_activity_begins_after_the_commit_of_the_event_that_asked_for_it(worker):
    handle = durable.start_workflow(workflows.call, "flows.committed_history", [])
    assert handle.result(timeout=DEADLINE) == ["RunStarted", "ActivityScheduled"]


def test_a_flush_holds_no_more_runs_than_its_limit(make_worker, batches, monkeypatch):
    monkeypatch.setattr(rota, "MAX_RUNS", 2)
    handles = [durable.start_workflow(workflows.approval) for _ in range(7)]
    for handle in handles:
        handle.signal(workflows.approved("yes"))
    make_worker(concurrency=8)
    assert [handle.result(timeout=DEADLINE) for handle in handles] == ["yes"] * 7
    assert max(len(batch) for batch in batches) == 2
    assert_all_invariants(handles)


@pytest.mark.parametrize(("limit", "most"), [("MAX_EVENTS", 3), ("MAX_BYTES", 100)])
def test_a_full_flush_is_written_before_more_is_applied_and_every_run_has_its_turn(
    make_worker, batches, monkeypatch, limit, most
):
    """A run with many messages does not keep the others waiting until all of them are applied."""
    monkeypatch.setattr(rota, limit, most)
    long = durable.start_workflow(workflows.collect_signals, 20)
    short = durable.start_workflow(workflows.collect_signals, 1)
    for number in range(20):
        long.signal(workflows.approved(str(number)))
    short.signal(workflows.approved("first"))
    make_worker()
    assert short.result(timeout=DEADLINE) == ["first"]
    assert long.result(timeout=DEADLINE) == [str(number) for number in range(20)]
    assert max(sum(len(write.events) for write in batch) for batch in batches) <= 5
    ends = {write.run_id: place for place, batch in enumerate(batches) for write in batch if write.ending}
    assert ends[short.run_id] < 3 < ends[long.run_id]
    assert_all_invariants([long, short])


def test_no_more_runs_are_claimed_than_can_have_a_slot_when_they_need_one(make_worker, monkeypatch):
    monkeypatch.setattr(taking, "LASTING", 3600.0)  # slots that are taken for long are another matter
    asked = []
    original = look.look

    def note(wanted):
        asked.append((wanted.runs, worker.engine.holdings.active() if worker else 0))
        return original(wanted)

    monkeypatch.setattr(look, "look", note)
    worker = None
    handles = [durable.start_workflow(workflows.chain, 3) for _ in range(20)]
    worker = make_worker(concurrency=2)
    assert [handle.result(timeout=DEADLINE) for handle in handles] == [3] * 20
    assert all(runs <= max(0, 2 - active) for runs, active in asked)
    assert max(runs for runs, _ in asked) == 2
    assert_all_invariants(handles)


def test_a_workflow_that_asks_for_too_much_at_once_is_parked_and_told_the_limit(worker):
    handle = durable.start_workflow(workflows.send_much, 5, 1_000_000)
    status = wait_for(lambda: (now := handle.status()).status == "blocked" and now, "the run to be parked")
    assert "DrainTooLarge" in status.blocked["message"]
    assert "4,000,000 is the limit" in status.blocked["message"]
    assert [event.type for event in handle.history()] == ["RunStarted"]
    assert durable.start_workflow(workflows.send_much, 3, 1_000_000).result(timeout=DEADLINE) == 3_000_000
    wait_for(lambda: worker._slots.taken() == 0, "every slot to be free again")
    assert_invariants(handle)


def test_local_work_leaves_a_quarter_of_the_slots_to_spilled_work_that_waits(make_worker, make_gate):
    first = make_worker()
    remote = durable.start_workflow(workflows.call, "flows.elsewhere", ["k"])
    wait_for(lambda: ActivityTask.objects.exists() and Dispatch.objects.filter(owner=None), "the task to wait")
    first.stop()
    assert first.join(DEADLINE)
    gate = make_gate("share")
    wide = durable.start_workflow(workflows.gather_at_gate, "share", 6)
    make_worker(concurrency=4, queues=("default", "elsewhere"))
    wait_for(lambda: Entry.objects.filter(kind="gate").exists(), "the first activities to run")
    scheduled = [event.data for event in wide.history() if event.type == "ActivityScheduled"]
    assert sum(one.get("worker") is not None for one in scheduled) == 2, (
        "three of four slots, one of them taken by the task"
    )
    gate.set()
    assert wide.result(timeout=DEADLINE) == 6
    assert remote.result(timeout=DEADLINE) == "k"
    assert_all_invariants([wide, remote])
