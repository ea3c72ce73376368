"""Connections break; what was committed stays, and nothing is done twice because a reply was lost."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from django_durable import durable
from django_durable.store import database
from django_durable.worker.ownership import OwnedRun
from django_durable.worker.parking import Parking
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


def end_all_other_connections():
    """As a restarted server or a firewall would."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return cursor.fetchone()[0]


def effects(count):
    """Whether there are at least so many effects."""
    return Entry.objects.count() >= count


@pytest.mark.postgres
def test_a_worker_survives_the_end_of_all_its_connections(worker):
    assert durable.start_workflow(workflows.chain, 2).result(timeout=DEADLINE) == 2
    for _ in range(3):
        assert end_all_other_connections()
        assert durable.start_workflow(workflows.chain, 2).result(timeout=DEADLINE) == 2


@pytest.mark.postgres
def test_connections_that_broke_while_their_threads_had_nothing_to_do_cost_no_attempts(worker, make_gate):
    """Each thread has its own; by and by they would use up the attempts of one activity."""
    gate = make_gate("warm")
    warm = durable.start_workflow(workflows.gather_at_gate, "warm", 4)
    wait_for(partial(effects, 4), "every thread to connect")
    gate.set()
    assert warm.result(timeout=DEADLINE) == 4
    end_all_other_connections()
    handles = [durable.start_workflow(workflows.effects, str(number), 4, 0.02) for number in range(8)]
    for handle in handles:
        handle.result(timeout=DEADLINE)
    assert set(Entry.objects.values_list("attempt", flat=True)) == {1}
    assert_all_invariants(handles)


@pytest.mark.postgres
def test_an_activity_that_finds_its_connection_broken_warns_the_other_threads(worker, make_gate):
    gate = make_gate("both")
    warm = durable.start_workflow(workflows.gather_at_gate, "both", 3)
    wait_for(partial(effects, 3), "the threads to connect")
    before = database.losses()
    handle = durable.start_workflow(workflows.call, "flows.break_connection_once", ["k"])
    assert handle.result(timeout=DEADLINE) == 2
    assert database.losses() > before
    gate.set()
    assert warm.result(timeout=DEADLINE) == 3


@pytest.mark.postgres
def test_connections_that_break_under_load_lose_nothing(worker):
    handles = [durable.start_workflow(workflows.effects, str(number), 8, 0.01) for number in range(6)]
    for count in (6, 18, 30):
        wait_for(partial(effects, count), "some effects")
        end_all_other_connections()
    for number, handle in enumerate(handles):
        assert handle.result(timeout=DEADLINE) == [f"{number}/{step}" for step in range(8)]
    atomic = Counter(Entry.objects.filter(kind="atomic").values_list("key", flat=True))
    assert len(atomic) == 24
    assert set(atomic.values()) == {1}
    assert_all_invariants(handles)


@pytest.fixture
def lost_replies(monkeypatch):
    """Every third commit of the engine happens, but its reply is lost with the connection."""
    lost = []
    commits = 0
    commit: Callable[..., None] = vars(BaseDatabaseWrapper)["_commit"]

    def commit_and_lose(self):
        nonlocal commits
        commit(self)
        if threading.current_thread().name == "durable-engine":
            commits += 1
            if commits % 3 == 0:
                lost.append(commits)
                self.connection.close()
                raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(BaseDatabaseWrapper, "_commit", commit_and_lose)
    return lost


@pytest.mark.postgres
def test_a_commit_whose_reply_is_lost_is_neither_lost_nor_done_twice(lost_replies, worker):
    handles = [durable.start_workflow(workflows.effects, str(number), 4) for number in range(4)]
    collecting = durable.start_workflow(workflows.collect_signals, 3)
    for word in ("a", "b", "c"):
        collecting.signal(workflows.approved(word))
    for number, handle in enumerate(handles):
        assert handle.result(timeout=DEADLINE) == [f"{number}/{step}" for step in range(4)]
    assert collecting.result(timeout=DEADLINE) == ["a", "b", "c"]
    assert len(lost_replies) >= 3
    assert set(Counter(Entry.objects.values_list("kind", "key")).values()) == {1}
    assert_all_invariants([*handles, collecting])


def test_an_error_while_an_end_is_tried_again_leaves_no_gap_in_the_history(make_worker, monkeypatch):
    """The instance has seen inputs that were not written: it must not go on."""
    failures: list[OwnedRun] = []

    def fail_first(self, run):
        if not failures:
            failures.append(run)
            raise OperationalError("database is locked")
        return original(self, run)

    original = Parking.still_ours
    monkeypatch.setattr(Parking, "still_ours", fail_first)
    handle = durable.start_workflow(workflows.approval)
    for word in ("yes", "too late"):
        handle.signal(workflows.approved(word))
    make_worker()
    assert handle.result(timeout=DEADLINE) == "yes"
    assert failures
    assert_invariants(handle)
