"""Connections break; what was committed stays, and nothing is done twice because a reply was lost."""

from __future__ import annotations

import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_durable import durable
from django_durable.models import HistoryEvent
from django_durable.store import flush, leases, outages
from django_durable.worker.flushing import Flusher, Stopped
from django_durable.worker.ownership import OwnedRun
from django_durable.worker.parking import Parking
from django_durable.worker.patience import FIRST_REST
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.store import chains
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE, in_thread, wait_for

OTHERS = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}
END = {"postgresql": "SELECT pg_terminate_backend(%s)", "mysql": "KILL %s"}


def end_all_other_connections():
    """As a restarted server or a firewall would."""
    with connection.cursor() as cursor:
        cursor.execute(OTHERS[connection.vendor])
        others = cursor.fetchall()
        for other in others:
            with suppress(OperationalError):  # it has ended by itself meanwhile
                cursor.execute(END[connection.vendor], other)
    return len(others)


def effects(count):
    """Whether there are at least so many effects."""
    return Entry.objects.count() >= count


@pytest.mark.server
def test_a_worker_survives_the_end_of_all_its_connections(worker):
    assert durable.start_workflow(workflows.chain, 2).result(timeout=DEADLINE) == 2
    for _ in range(3):
        assert end_all_other_connections()
        assert durable.start_workflow(workflows.chain, 2).result(timeout=DEADLINE) == 2


@pytest.mark.server
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


@pytest.mark.server
def test_an_activity_that_finds_its_connection_broken_warns_the_other_threads(worker, make_gate):
    gate = make_gate("both")
    warm = durable.start_workflow(workflows.gather_at_gate, "both", 3)
    wait_for(partial(effects, 3), "the threads to connect")
    before = outages.losses()
    handle = durable.start_workflow(workflows.call, "flows.break_connection_once", ["k"])
    assert handle.result(timeout=DEADLINE) == 2
    assert outages.losses() > before
    gate.set()
    assert warm.result(timeout=DEADLINE) == 3


@pytest.mark.server
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


@pytest.mark.server
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


def test_a_worker_whose_last_word_is_not_heard_ends_in_order_all_the_same(make_worker, monkeypatch, caplog):
    def lose(*args, **options):
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(leases, "retire", lose)
    worker = make_worker()
    assert durable.start_workflow(workflows.chain, 2).result(timeout=DEADLINE) == 2
    worker.stop()
    assert worker.join(DEADLINE)
    assert worker.exit_code == 0
    assert "could not say that it ends" in caplog.text


@pytest.fixture
def slow_commits(transactional_db):
    """PostgreSQL takes its time over each commit of history events; how to have MariaDB do so is ``send_commit``'s."""
    if connection.vendor == "mysql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$"
        )
        cursor.execute(
            f"CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON {HistoryEvent._meta.db_table} "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle()"
        )
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION dawdle CASCADE")


def send_commit(own):
    """Send a COMMIT that takes a while, longer than MariaDB lets anybody wait for a lock; and hear no reply."""
    if own.vendor == "mysql":
        own.connection.send_query(b"DO SLEEP(1.5); COMMIT")
    else:
        own.connection.pgconn.send_query(b"COMMIT")
        own.connection.pgconn.flush()
    own.connection.close()


@pytest.fixture
def cut_commits(monkeypatch):
    """The first commits of history events are sent, and the connection breaks while the server is busy with them.

    What was found when they were looked for.
    """
    cut: list[BaseDatabaseWrapper] = []
    found: list[bool | str] = []
    write, commit, was_committed = flush._write, vars(BaseDatabaseWrapper)["_commit"], flush.was_committed
    sends_events = threading.local()

    def note_events(worker, writes, *rest):
        write(worker, writes, *rest)
        sends_events.now = any(one.events for one in writes)

    def send_and_break(self):
        if not getattr(sends_events, "now", False) or len(cut) >= 3:
            commit(self)
            return
        sends_events.now = False
        cut.append(self)
        send_commit(self)
        raise OperationalError("server closed the connection unexpectedly")

    def note_what_is_found(transaction, writes):
        try:
            found.append(was_committed(transaction, writes))
        except flush.StillInProgress:
            found.append("in progress")
            raise
        return found[-1]

    monkeypatch.setattr(flush, "_write", note_events)
    monkeypatch.setattr(BaseDatabaseWrapper, "_commit", send_and_break)
    monkeypatch.setattr(flush, "was_committed", note_what_is_found)
    return found


@pytest.mark.server
@pytest.mark.usefixtures("slow_commits")
def test_a_commit_that_the_server_is_still_busy_with_is_waited_for(cut_commits, make_worker):
    handle = durable.start_workflow(workflows.effects, "k", 2)
    make_worker()
    assert handle.result(timeout=DEADLINE) == ["k/0", "k/1"]
    wait_for(lambda: cut_commits.count(True) == 3, "the worker to see it")
    assert cut_commits.count("in progress") >= 3
    assert False not in cut_commits
    assert Entry.objects.count() == 2
    assert_invariants(handle)


@pytest.fixture
def read_only(transactional_db, monkeypatch):
    """As after a switch to a replica: whoever connects from now on can only read. Calling it says whether."""
    own = connection.ops.quote_name(connection.settings_dict["NAME"])
    only_reads = False

    def switch(on):
        nonlocal only_reads
        only_reads = on
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER DATABASE {own} SET default_transaction_read_only = {'on' if on else 'off'}")
        end_all_other_connections()

    def connect(self):
        original(self)
        if only_reads and self.vendor == "mysql":
            with self.cursor() as cursor:
                cursor.execute("SET SESSION TRANSACTION READ ONLY")

    wrapper: Any = type(connections[DEFAULT_DB_ALIAS])
    original = wrapper.init_connection_state
    monkeypatch.setattr(wrapper, "init_connection_state", connect)
    yield switch
    switch(False)


@pytest.mark.server
def test_a_database_that_only_reads_parks_nothing_and_counts_nothing(read_only, worker, make_gate, caplog):
    gate = make_gate("outage")
    handle = durable.start_workflow(workflows.call, "flows.recorded_at_gate", ["outage"])
    wait_for(Entry.objects.exists, "the activity to run")
    read_only(True)
    gate.set()
    waiting = durable.start_workflow(workflows.chain, 2)
    wait_for(lambda: len(refusals(caplog)) > 4, "the worker to try")
    assert (handle.status().status, waiting.status().status) == ("running", "pending")
    read_only(False)
    assert handle.result(timeout=DEADLINE) == "outage"
    assert waiting.result(timeout=DEADLINE) == 2
    assert [event.data.get("attempts", 1) for event in handle.history() if event.type == "ActivityCompleted"] == [1]
    assert Entry.objects.get().attempt == 1
    assert_ever_longer(refusals(caplog)[:5])
    assert_all_invariants([handle, waiting])


@pytest.mark.server
def test_a_flush_that_the_database_does_not_take_is_tried_again_ever_more_rarely(read_only, caplog):
    def give_up():
        return len(refusals(caplog)) > 4

    def write():
        with pytest.raises(Stopped):
            Flusher(owner, give_up).write([chains.write(claimed)])

    owner = chains.worker()
    claimed = chains.owned(owner)
    read_only(True)
    in_thread(write).join(DEADLINE)
    assert_ever_longer(refusals(caplog))


def refusals(caplog):
    """When the engine's log told that the database only reads."""
    return [
        record.created
        for record in caplog.records
        if record.module in ("worker", "flushing") and re.search("(?i)read.only transaction", record.getMessage())
    ]


def assert_ever_longer(times):
    """Each pause is about twice as long as the one before, if not longer."""
    assert len(times) == 5
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(pause > FIRST_REST * 0.85 * 2**number for number, pause in enumerate(pauses)), pauses


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
