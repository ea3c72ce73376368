"""Activities that send no heartbeats learn within a moment that nobody waits for them, wherever that was decided."""

from __future__ import annotations

import pytest

from django_durable import durable
from django_durable.worker import worker as workers
from tests.flows import lasting
from tests.flows.models import Entry
from tests.integration.worker.running import wait_for

KINDS = pytest.mark.parametrize("name", ["watches", "until_cancelled_async"])


@pytest.fixture(autouse=True)
def _no_audits(monkeypatch):
    """Which would find it too, a while later."""
    monkeypatch.setattr(workers, "AUDIT_SECONDS", 3_600.0)


def begun():
    return wait_for(lambda: Entry.objects.filter(kind="begun").first(), "it to begin")


def learnt():
    return wait_for(lambda: Entry.objects.filter(kind="cancelled").first(), "it to learn")


@KINDS
def test_that_its_workflow_has_given_it_up_on_another_worker(make_worker, name):
    make_worker()
    far = make_worker(queues=("far",))
    handle = durable.start_workflow(lasting.gives_up, f"flows.{name}", "k", "far")
    begun()
    handle.signal("enough")
    learnt()
    wait_for(lambda: far._slots.taken() == 0, "its slot to be free")


@KINDS
@pytest.mark.parametrize("queue", [None, "far"], ids=["local", "spilled"])
def test_that_its_run_was_terminated(make_worker, name, queue):
    worker = make_worker(queues=("default", "far"))
    handle = durable.start_workflow(lasting.gives_up, f"flows.{name}", "k", queue)
    begun()
    handle.terminate()
    learnt()
    wait_for(lambda: worker._slots.taken() == 0, "its slot to be free")


@KINDS
def test_that_another_worker_is_waited_for(make_worker, name):
    make_worker()
    make_worker(queues=("far",))
    handle = durable.start_workflow(lasting.cancels, "wait", f"flows.{name}", "k", "far")
    begun()
    handle.signal("enough")
    learnt()
    handle.terminate()
