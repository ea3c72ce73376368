"""Workers of two releases side by side: what the newer one writes is not lost on the older one."""

from __future__ import annotations

import pytest

from django_durable import durable
from django_durable.history import codec, messages, vocabulary
from django_durable.models import Dispatch, HistoryEvent, InboxMessage
from django_durable.store import clock
from tests.flows import workflows
from tests.integration.worker.running import wait_for


def blocked(handle) -> bool:
    return bool(handle.status().status == "blocked")


@pytest.mark.parametrize("cache", [0, 1_000])
def test_an_unknown_event_blocks_its_run_alone_and_a_newer_worker_goes_on_at_once(
    make_worker, configure, monkeypatch, cache
):
    configure(INSTANCE_CACHE_SIZE=cache)
    newer = make_worker()
    waiting = durable.start_workflow(workflows.approval, 3_600.0)
    wait_for(lambda: HistoryEvent.objects.filter(type="TimerStarted").exists(), "the first drain")
    newer.stop()
    assert newer.join(30)

    with monkeypatch.context() as older:
        older.delitem(codec._decoders, "TimerStarted")
        worker = make_worker()
        durable.signal_workflow(waiting.workflow_id, "approved", "ada")
        others = [durable.start_workflow(workflows.effects, str(number), 2) for number in range(5)]
        wait_for(lambda: blocked(waiting), "the run to be parked")
        assert [len(handle.result(timeout=30)) for handle in others] == [2] * 5
        block = waiting.status().blocked
        assert block is not None
        assert (block["reason"], "TimerStarted" in block["message"]) == ("unreadable", True)
        worker.stop()
        assert worker.join(30)

    make_worker()
    assert waiting.result(timeout=30) == "ada"


def test_an_unknown_message_blocks_its_run_and_stays_until_a_newer_worker_comes(make_worker, monkeypatch):
    handle = durable.start_workflow(workflows.approval, 3_600.0)
    known = messages.decode
    with monkeypatch.context() as older:
        older.setattr(messages, "KINDS", tuple(kind for kind in messages.KINDS if kind != "signal"))
        older.setattr(messages, "decode", lambda data: messages.Unreadable(data=data, error="unknown"))
        worker = make_worker()
        wait_for(lambda: Dispatch.objects.filter(epoch__gt=0).exists() or blocked(handle), "the run to be claimed")
        durable.signal_workflow(handle.workflow_id, "approved", "ada")
        wait_for(lambda: blocked(handle), "the run to be parked")
        assert InboxMessage.objects.count() == 1
        worker.stop()
        assert worker.join(30)
    assert messages.decode is known
    make_worker()
    assert handle.result(timeout=30) == "ada"


def test_the_older_worker_does_not_try_again_and_again(make_worker):
    handle = durable.start_workflow(workflows.echo, 1)
    HistoryEvent.objects.filter(run_id=handle.run_id).update(type="FromTheFuture")
    make_worker()
    wait_for(lambda: blocked(handle), "the run to be parked")
    row = Dispatch.objects.get(pk=handle.run_id)
    assert row.blocked_by == vocabulary.current()
    assert row.wakeup_at is not None
    assert row.wakeup_at > clock.read()
