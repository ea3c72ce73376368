"""Unknown commits: a COMMIT without a reply may have happened, may not have, or may still be under way."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, OperationalError, connection

from django_durable.history import events, messages
from django_durable.store import database, flush, history, inbox, leases, mariadb, outages, tasks
from tests.integration.store import chains
from tests.integration.store.sessions import Elsewhere, Session

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_flush_tells_its_transaction_before_it_commits() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    note = flush.Result(verdicts={})
    broken = chains.write(claimed, consumed=("not an id",))

    with pytest.raises(Exception, match=r"not an id|invalid|expected a number"):
        flush.flush(owner, [broken], note=note)

    assert list(note.verdicts) == [claimed.chain_id]
    assert bool(note.transaction) is database.is_postgres()


def test_a_commit_that_happened_is_found_to_have_happened() -> None:
    owner = chains.worker()
    write = chains.write(chains.owned(owner))
    result = flush.flush(owner, [write])

    assert flush.was_committed(result.transaction, [write]) is True


def test_a_commit_that_did_not_happen_is_found_not_to_have_happened() -> None:
    owner = chains.worker()
    write = chains.write(chains.owned(owner))
    begun: list[leases.Fence] = []

    def roll_back() -> None:
        with leases.fenced(owner) as fence:
            begun.append(fence)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        roll_back()

    assert flush.was_committed(begun[0].transaction, [write]) is False


@pytest.mark.server
def test_a_transaction_that_is_still_in_progress_is_waited_for(session: Session) -> None:
    """Reading back would show nothing yet, and the same input would be applied again."""
    owner = chains.worker()
    claimed = chains.owned(owner)
    write = chains.write(claimed)
    transaction = ""
    if database.is_postgres():
        [(transaction,)] = session.execute("SELECT pg_current_xact_id()::text")
    session.execute(
        f"INSERT INTO durable_historyevent (run_id, sequence, type, {connection.ops.quote_name('schema')}, time, data) "
        "VALUES (%s, 2, 'TimerStarted', 1, now(), %s)",
        claimed.run_id,
        write.events[0].data,
    )

    assert flush.is_in_progress(transaction) is database.is_postgres()
    with pytest.raises(flush.StillInProgress):
        flush.was_committed(transaction, [write])

    session.commit()
    assert flush.is_in_progress(transaction) is False
    assert flush.was_committed(transaction, [write]) is True


@pytest.mark.server
def test_a_transaction_that_ends_with_its_connection_is_found_not_to_have_happened(session: Session) -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    write = chains.write(claimed)
    begun: list[leases.Fence] = []

    def lose_the_connection() -> None:
        with leases.fenced(owner) as fence:
            begun.append(fence)
            history.append(write.events)
            if database.is_postgres():
                session.execute("SELECT pg_terminate_backend(%s)", connection.connection.info.backend_pid)
            else:
                session.execute("KILL %s", connection.connection.thread_id())

    with pytest.raises(OperationalError):
        lose_the_connection()
    outages.discard()

    assert flush.was_committed(begun[0].transaction, [write]) is False
    assert chains.history_of(claimed.run_id) == ["RunStarted"]


@pytest.mark.postgres
def test_a_transaction_that_the_server_never_heard_of_is_found_not_to_have_happened(session: Session) -> None:
    """After a fail-over to a standby that lost it, its id is one that this server has still to give."""
    owner = chains.worker()
    write = chains.write(chains.owned(owner))
    [(lost,)] = session.execute("SELECT (pg_current_xact_id()::text::bigint + 1000000)::text")

    assert flush.was_committed(lost, [write]) is False
    assert flush.is_in_progress(lost) is False


@pytest.mark.postgres
def test_a_transaction_id_given_again_after_a_crash_proves_nothing(session: Session) -> None:
    """The server crashed before the first one had reached its disk: what has its id now is somebody else's."""
    owner = chains.worker()
    claimed = chains.owned(owner)
    spilled = flush.RunWrite(
        chain_id=claimed.chain_id, run_id=claimed.run_id, epoch=claimed.epoch, spilled=(chains.task(claimed),)
    )
    [(given_again,)] = session.execute("SELECT pg_current_xact_id()::text")
    session.commit()

    assert flush.was_committed(given_again, [chains.write(claimed)]) is False
    assert flush.was_committed(given_again, [spilled]) is False


def test_another_event_in_the_same_place_is_not_the_one_that_was_to_be_written() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    flush.flush(owner, [chains.write(claimed)])
    other = chains.event(claimed.run_id, 2, events.TimerStarted(duration=2))
    write = flush.RunWrite(chain_id=claimed.chain_id, run_id=claimed.run_id, epoch=claimed.epoch, events=(other,))

    assert flush.was_committed("", [write]) is False


def test_a_task_row_tells_that_a_write_without_events_was_committed() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    task = chains.task(claimed)
    write = flush.RunWrite(chain_id=claimed.chain_id, run_id=claimed.run_id, epoch=claimed.epoch, spilled=(task,))
    result = flush.flush(owner, [write])

    assert flush.was_committed(result.transaction, [write]) is True


def test_a_task_that_has_its_outcome_already_was_committed_too() -> None:
    """Somebody else has executed it meanwhile: written again, it would be executed again."""
    owner = chains.worker()
    claimed = chains.owned(owner)
    task = chains.task(claimed)
    write = flush.RunWrite(chain_id=claimed.chain_id, run_id=claimed.run_id, epoch=claimed.epoch, spilled=(task,))
    result = flush.flush(owner, [write])
    tasks.rows().all().delete()
    inbox.deliver([(claimed.chain_id, messages.ActivityResult(key=task.key))])

    assert flush.was_committed(result.transaction, [write]) is True


def test_without_a_transactions_id_the_history_tells() -> None:
    """SQLite has none; there a commit is never under way on a server."""
    owner = chains.worker()
    write = chains.write(chains.owned(owner))
    assert flush.was_committed("", [write]) is False

    flush.flush(owner, [write])

    assert flush.was_committed("", [write]) is True


@pytest.mark.server
def test_a_task_that_is_just_being_spilled_is_waited_for(session: Session) -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    write = flush.RunWrite(
        chain_id=claimed.chain_id, run_id=claimed.run_id, epoch=claimed.epoch, spilled=(chains.task(claimed),)
    )
    begun: list[str] = []

    def spill() -> None:
        with leases.fenced(owner) as fence:
            begun.append(fence.transaction)
            tasks.insert(write.spilled)
            with pytest.raises(flush.StillInProgress):
                Elsewhere(lambda: flush.was_committed(fence.transaction, [write])).result()

    spill()

    assert flush.was_committed(begun[0], [write]) is True


# What kind of error it is


@pytest.mark.skipif(connection.vendor != "mysql", reason="numbers of MariaDB's errors")
@pytest.mark.parametrize(
    ("number", "outage", "conflict"),
    [
        (1406, False, False),  # a value too long: the run's own
        (1366, False, False),  # text that has no place in its column
        (1062, False, False),  # a place that is taken
        (1153, False, False),  # larger than max_allowed_packet
        (1290, True, False),  # read-only after a fail-over
        (1021, True, False),  # disk full
        (1040, True, False),  # too many connections
        (1053, True, False),  # shutdown
        (1969, True, False),  # statement timeout
        (1146, True, False),  # a migration is missing
        (1205, True, True),  # a lock was not had
        (1213, True, True),  # a deadlock
        (1020, True, True),
    ],
)
def test_only_a_property_of_the_run_is_no_outage_of_mariadb(number: int, outage: bool, conflict: bool) -> None:
    with connection.cursor() as cursor, pytest.raises(DatabaseError) as raised:
        cursor.execute(f"SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {number}")

    assert mariadb.number(raised.value) == number
    assert outages.is_outage(raised.value) is outage
    assert outages.is_conflict(raised.value) is conflict


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("state", "outage", "conflict"),
    [
        ("22001", False, False),  # a value too long: the run's own
        ("23505", False, False),  # a place that is taken
        ("54000", False, False),  # too complex
        ("25006", True, False),  # read-only after a fail-over
        ("53100", True, False),  # disk full
        ("53300", True, False),  # too many connections
        ("57P01", True, False),  # shutdown
        ("57014", True, False),  # statement timeout
        ("42P01", True, False),  # a migration is missing
        ("55P03", True, True),  # a lock was not had
        ("40001", True, True),
        ("40P01", True, True),
    ],
)
def test_only_a_property_of_the_run_is_no_outage(state: str, outage: bool, conflict: bool) -> None:
    with connection.cursor() as cursor, pytest.raises(DatabaseError) as raised:
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION SQLSTATE '{state}'; END $$")

    assert outages.sqlstate(raised.value) == state
    assert outages.is_outage(raised.value) is outage
    assert outages.is_conflict(raised.value) is conflict
