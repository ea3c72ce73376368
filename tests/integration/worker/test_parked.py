"""Runs that cannot go on are parked, never failed, and go on once they can."""

from __future__ import annotations

import inspect
from datetime import timedelta
from functools import partial

from django_durable import durable
from django_durable.models import Dispatch
from django_durable.store import clock
from django_durable.worker import parking
from django_durable.worker.parking import FIRST_PAUSE
from tests.flows import workflows
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


def was_parked(handle, times):
    """Whether the run is parked, and was so many times in a row."""
    return (handle.status().blocked or {}).get("times") == times


def make_due():
    """As if the pause of the parked runs were over."""
    assert Dispatch.objects.filter(hold="blocked").update(wakeup_at=clock.now())


def test_code_that_never_awaits_is_stopped_and_its_line_named(worker, configure):
    configure(STUCK_SECONDS=0.5)
    handle = durable.start_workflow(workflows.spin, 3600)
    status = wait_for(lambda: (now := handle.status()).status == "blocked" and now, "the run to be parked")
    lines, first = inspect.getsourcelines(workflows.spin.function)
    file, _, line = status.blocked["where"].rpartition(":")
    assert status.blocked["reason"] == "stuck"
    assert file == inspect.getsourcefile(workflows.spin.function)
    assert first <= int(line) < first + len(lines)
    assert durable.start_workflow(workflows.chain, 3).result(timeout=DEADLINE) == 3
    assert handle.status().status == "blocked"
    assert_invariants(handle)


def test_a_parked_run_can_be_terminated(worker, configure):
    configure(STUCK_SECONDS=0.3)
    handle = durable.start_workflow(workflows.spin, 3600)
    wait_for(lambda: handle.status().status == "blocked", "the run to be parked")
    assert handle.terminate()
    assert_invariants(handle)


def test_code_that_does_not_repeat_its_history_blocks_the_run_until_it_does(worker, configure, monkeypatch):
    configure(INSTANCE_CACHE_SIZE=0)
    handle = durable.start_workflow(workflows.changing, 4)
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch=1), "the run to wait for its signal")
    with monkeypatch.context() as deploy:
        deploy.setitem(workflows._versions, "changed", "other code")
        handle.signal(workflows.approved("yes"))
        status = wait_for(lambda: (now := handle.status()).status == "blocked" and now, "the run to be parked")
    blocked = status.blocked
    assert blocked["reason"] == "nondeterminism"
    assert blocked["event"] == 2
    assert "flows.add" in blocked["recorded"]
    assert "flows.nothing" in blocked["requested"]
    assert "workflows.py:" in blocked["where"]
    assert blocked["since"]
    assert not status.is_closed
    assert "blocked" not in status.as_dict()

    make_due()
    assert handle.result(timeout=DEADLINE) == 8
    assert handle.status().blocked is None
    assert_invariants(handle)


def test_a_parked_run_keeps_its_signals_and_counts_how_often_it_was_parked(worker, configure, monkeypatch):
    configure(INSTANCE_CACHE_SIZE=0)
    handle = durable.start_workflow(workflows.changing, 4)
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch=1), "the run to wait for its signal")
    with monkeypatch.context() as deploy:
        deploy.setitem(workflows._versions, "changed", "other code")
        handle.signal(workflows.approved("first"))
        wait_for(lambda: handle.status().status == "blocked", "the run to be parked")
        make_due()
        wait_for(lambda: (handle.status().blocked or {}).get("times") == 2, "the second try")
    handle.signal(workflows.approved("second"))
    make_due()
    assert handle.result(timeout=DEADLINE) == 5 + len("first")
    assert_invariants(handle)


def test_code_that_gets_stuck_again_and_again_is_counted_until_it_goes_on(worker, configure):
    configure(STUCK_SECONDS=0.3)
    handle = durable.start_workflow(workflows.spin_when_told, 3600)
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch=1), "the run to wait for its signal")
    handle.signal(workflows.approved("yes"))
    for times in (1, 2, 3):
        wait_for(lambda: (handle.status().blocked or {}).get("times") == times, f"try {times}")  # noqa: B023
        wait_for(lambda: Dispatch.objects.filter(owner=None, hold="blocked"), "the run to be parked")
        wakeup_at = Dispatch.objects.get().wakeup_at
        assert wakeup_at is not None
        assert wakeup_at - clock.read() > parking.FIRST_PAUSE * 2 ** (times - 1) - timedelta(seconds=20)
        make_due()
    handle.terminate()
    assert_invariants(handle)


def test_a_worker_that_stops_hands_over_a_parked_run_that_it_was_about_to_try(make_worker, configure, monkeypatch):
    """Still held, it would be deaf to its messages."""
    configure(INSTANCE_CACHE_SIZE=0)
    first = make_worker()
    handle = durable.start_workflow(workflows.changing, 4)
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch=1), "the run to wait for its signal")
    assert first.join(0) is False
    first.stop()
    assert first.join(DEADLINE)
    Dispatch.objects.update(hold="blocked", blocked_by="other code", wakeup_at=clock.now())
    second = make_worker(burst=True)
    assert second.join(DEADLINE)
    row = Dispatch.objects.get()
    assert (row.owner, row.hold, row.blocked_by) == (None, None, None)
    handle.signal(workflows.approved("yes"))
    make_worker()
    assert handle.result(timeout=DEADLINE) == 8
    assert_invariants(handle)


def test_the_pauses_between_the_tries_of_a_parked_run_grow(worker, configure, monkeypatch):
    configure(INSTANCE_CACHE_SIZE=0)
    handle = durable.start_workflow(workflows.changing, 4)
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch=1), "the run to wait for its signal")
    monkeypatch.setitem(workflows._versions, "changed", "other code")
    handle.signal(workflows.approved("yes"))
    began = clock.read()
    for times in (1, 2, 3):
        wait_for(partial(was_parked, handle, times), "the next try")
        wakeup, pause = Dispatch.objects.get().wakeup_at, FIRST_PAUSE * 2 ** (times - 1)
        assert began + pause <= wakeup <= clock.read() + pause
        began = clock.read()
        make_due()
