"""The table of events in monthly parts: PostgreSQL only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import StringIO
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, OperationalError, connection

from django_durable import durable
from django_durable.models import HistoryEvent, PrunedRun, WorkflowRun
from django_durable.store import partitions
from django_durable.worker.retention import Retention
from tests import factories
from tests.e2e.harness.databases import PARTITIONED
from tests.flows import workflows
from tests.integration.retention.conftest import assert_no_orphans
from tests.integration.retention.test_pruning import OFFLOADING
from tests.integration.store.sessions import Session
from tests.integration.worker.deaths import past_worker
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import COMMITTING, DEADLINE, in_thread, wait_for

pytestmark = [COMMITTING, pytest.mark.postgres]

TABLE = HistoryEvent._meta.db_table
NOW = datetime(2031, 3, 20, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def one_table(transactional_db: None) -> Iterator[None]:
    """The table is in one, before a test and after it."""
    _begin_anew()
    yield
    _begin_anew()
    if PARTITIONED:
        partitions.introduce(datetime.now(UTC))


def _begin_anew() -> None:
    with connection.schema_editor() as editor:
        editor.execute(f"DROP TABLE {TABLE} CASCADE")
        editor.create_model(HistoryEvent)


def run_of(moment: datetime, *, events: int = 3, **values: object) -> WorkflowRun:
    """A run that has begun then, and its events."""
    run_id = UUID(int=partitions.first_id(moment).int | 7 << 76 | 0b10 << 62 | WorkflowRun.objects.count())
    run: WorkflowRun = factories.WorkflowRunFactory.create(id=run_id, created_at=moment, **values)
    for sequence in range(1, events + 1):
        factories.HistoryEventFactory.create(run=run, sequence=sequence)
    return run


def pruned(moment: datetime) -> UUID:
    """The same, pruned, whose events are still to be deleted."""
    run_id: UUID = run_of(moment).pk
    PrunedRun.objects.create(run_id=run_id, events=3)
    WorkflowRun.objects.filter(pk=run_id).delete()
    return run_id


def events_of(part: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {TABLE}_{part}")
        return int(cursor.fetchone()[0])


def names() -> list[str]:
    return [part.name.removeprefix(f"{TABLE}_") for part in partitions.parts()]


def said(*arguments: str) -> str:
    out = StringIO()
    call_command("durable_partition", *arguments, stdout=out)
    return out.getvalue()


def test_what_is_there_stays_and_everything_goes_on_meanwhile(make_worker):
    make_worker()
    before = durable.start_workflow(workflows.approval)
    wait_for(lambda: HistoryEvent.objects.filter(run_id=before.run_id).exists(), "it to begin")
    assert said("--show") == "The events are in one table.\n"
    assert "durable_historyevent_past" in said()
    assert partitions.parts()[0].end == partitions.first_id(partitions.month_after(datetime.now(UTC) + timedelta(2)))
    before.signal(workflows.approved("yes"))
    after = durable.start_workflow(workflows.effects, "a", 3)
    assert (before.result(timeout=DEADLINE), after.result(timeout=DEADLINE)) == ("yes", ["a/0", "a/1", "a/2"])
    for handle in (before, after):
        assert_invariants(handle)
    assert said() == said("--show")


def test_the_events_of_a_run_lie_in_the_month_in_which_it_began():
    partitions.introduce(NOW)
    assert names() == ["past", "2031_04", "2031_05", "rest"]
    for month, count in ((1, 1), (4, 2), (5, 3), (9, 4)):
        run_of(datetime(2031, month, 7, tzinfo=UTC), events=count)
    assert [events_of(name) for name in names()] == [1, 2, 3, 4]
    run = WorkflowRun.objects.latest("pk")
    with pytest.raises(IntegrityError):
        factories.HistoryEventFactory.create(run=run, sequence=1)


def test_months_are_added_ahead_and_take_in_what_has_come_too_early():
    partitions.introduce(NOW)
    run_of(datetime(2031, 7, 1, tzinfo=UTC))
    run_of(datetime(2031, 8, 1, tzinfo=UTC))
    partitions.extend(datetime(2031, 5, 9, tzinfo=UTC))
    assert names() == ["past", "2031_04", "2031_05", "2031_06", "2031_07", "rest"]
    assert (events_of("2031_07"), events_of("rest")) == (3, 3)
    assert HistoryEvent.objects.count() == 6


def test_a_month_of_which_no_run_is_left_is_dropped_with_what_is_still_to_be_deleted():
    partitions.introduce(NOW)
    april, may = datetime(2031, 4, 9, tzinfo=UTC), datetime(2031, 5, 9, tzinfo=UTC)
    pruned(april)
    kept = run_of(may)
    late = pruned(may)
    open_ = run_of(datetime(2031, 6, 9, tzinfo=UTC))
    assert partitions.keep_up(datetime(2031, 5, 1, 12, tzinfo=UTC)) == [], "clocks differ"
    assert partitions.keep_up(datetime(2031, 7, 9, tzinfo=UTC)) == [f"{TABLE}_2031_04"]
    assert names() == ["past", "2031_05", "2031_06", "2031_07", "2031_08", "2031_09", "rest"]
    assert set(HistoryEvent.objects.values_list("run_id", flat=True)) == {kept.pk, late, open_.pk}
    assert list(PrunedRun.objects.values_list("pk", flat=True)) == [late]
    assert_no_orphans()


def test_what_was_there_before_is_never_dropped():
    pruned(NOW)
    partitions.introduce(NOW)
    partitions.keep_up(datetime(2032, 1, 1, tzinfo=UTC))
    assert names()[0] == "past"
    assert events_of("past") == 3


def test_values_that_a_codec_keeps_elsewhere_are_deleted_first(configure):
    configure(PAYLOADS={"CODECS": [OFFLOADING]})
    partitions.introduce(NOW)
    pruned(datetime(2031, 4, 9, tzinfo=UTC))
    later = datetime(2031, 6, 9, tzinfo=UTC)
    partitions.keep_up(later)
    assert "2031_04" in names()
    PrunedRun.objects.all().delete()
    partitions.keep_up(later)
    assert "2031_04" not in names()


def test_a_worker_keeps_it_up(monkeypatch):
    partitions.introduce(datetime.now(UTC) - timedelta(days=100))
    assert len(names()) == 4
    Retention().round(past_worker(dead=False, expired=False))
    today = datetime.now(UTC)
    assert f"{partitions.month_after(today):%Y_%m}" in names()
    assert f"{today - timedelta(days=70):%Y_%m}" not in names(), "it was dropped: no run has begun in that month"


def test_two_may_do_it_at_once():
    partitions.introduce(NOW)
    pruned(datetime(2031, 4, 9, tzinfo=UTC))
    later = datetime(2031, 9, 9, tzinfo=UTC)
    together = threading.Barrier(3)

    def keep_up() -> None:
        together.wait()
        partitions.keep_up(later)

    for thread in [in_thread(keep_up) for _ in range(3)]:
        thread.join()
    partitions.keep_up(later)
    assert names() == ["past", "2031_09", "2031_10", "2031_11", "rest"]


def test_others_who_keep_the_table_locked_are_not_waited_for(monkeypatch):
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "50ms")
    with closing(Session()) as other:
        other.execute(f"SELECT 1 FROM {TABLE}")
        with pytest.raises(CommandError, match="Nothing has been changed"):
            said()
        assert names() == []
        run_of(NOW)  # whenever it begins
        other.rollback()
        HistoryEvent.objects.all().delete()
        assert "past" in said()


def test_who_begins_to_read_half_way_is_not_waited_for_either(monkeypatch):
    """What is left then is taken back before it is in anybody's way."""
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "50ms")
    with closing(Session()) as other:

        def divide(end: UUID) -> None:
            other.execute(f"SELECT 1 FROM {TABLE}")
            go_on(end)

        go_on = partitions._divide
        monkeypatch.setattr(partitions, "_divide", divide)
        with pytest.raises(OperationalError):
            partitions.introduce(NOW)
        other.rollback()
    assert names() == []
    partitions.keep_up(datetime(2031, 3, 31, 12, tzinfo=UTC))
    run_of(datetime(2031, 4, 2, tzinfo=UTC))


def test_others_who_read_a_month_keep_it_until_the_next_time():
    partitions.introduce(NOW)
    later = datetime(2031, 5, 9, tzinfo=UTC)
    with closing(Session()) as other:
        other.execute(f"SELECT 1 FROM {TABLE}")
        assert partitions.keep_up(later) == []
        other.rollback()
        assert partitions.keep_up(later) == [f"{TABLE}_2031_04"]


def test_who_dies_half_way_is_in_nobodys_way_for_long():
    with connection.cursor() as cursor:
        limit = partitions.first_id(datetime(2031, 4, 1, tzinfo=UTC))
        cursor.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT {TABLE}_before CHECK (run_id < '{limit}') NOT VALID")
    partitions.keep_up(NOW)
    with pytest.raises(IntegrityError):
        run_of(datetime(2031, 4, 2, tzinfo=UTC))
    partitions.keep_up(datetime(2031, 3, 31, 12, tzinfo=UTC))
    WorkflowRun.objects.all().delete()
    run_of(datetime(2031, 4, 2, tzinfo=UTC))


def test_who_might_read_the_table_still_may():
    role = f"reader_{connection.settings_dict['NAME']}"
    with connection.cursor() as cursor:
        cursor.execute(f"DROP ROLE IF EXISTS {role}")
        cursor.execute(f"CREATE ROLE {role}")
        cursor.execute(f"GRANT SELECT ON {TABLE} TO {role}")
        partitions.introduce(NOW)
        cursor.execute("SELECT has_table_privilege(%s, %s, 'SELECT')", [role, TABLE])
        assert cursor.fetchone() == (True,)
        cursor.execute(f"DROP OWNED BY {role}")
        cursor.execute(f"DROP ROLE {role}")
