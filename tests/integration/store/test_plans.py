"""Every hot query uses its index, however much sleeps: none reads a table from end to end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from django_durable.history.replies import State
from django_durable.history.status import Status
from django_durable.models import (
    ActivityOutcome,
    ActivityTask,
    Dispatch,
    HistoryEvent,
    InboxMessage,
    Schedule,
    Update,
    WorkflowRun,
)
from django_durable.store import clock, dispatch, history, inbox, levels, missing, recovery, runs, tasks, updates

pytestmark = pytest.mark.django_db

ROWS = 20_000
OWNER = 1
POSTGRES = {
    "rows": f"SELECT i FROM generate_series(1, {ROWS}) AS numbers(i)",
    "uuid": "md5(({})::text)::uuid",
    "later": "now() + interval '1 day'",
    "earlier": "now() - interval '1 minute'",
}
SQLITE = {
    "rows": f"WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < {ROWS}) "
    "SELECT i FROM numbers",
    "uuid": "printf('%032x', {})",
    "later": "datetime('now', '+1 day')",
    "earlier": "datetime('now', '-1 minute')",
}


# SQLite also scans rows that the statement itself has made: lists of queues and the levels found so far.
WHOLE_TABLE = re.compile(
    r"Seq Scan on durable_|^SCAN (?!queues|chains|tasks|(\d+ )?CONSTANT)(?!.*USING (COVERING )?INDEX)"
)


def fill(table: str, **columns: str) -> None:
    """Insert ROWS rows; each column is an SQL expression of ``i``."""
    words = POSTGRES if connection.vendor == "postgresql" else SQLITE
    values = [re.sub(r"uuid\((.*)\)", lambda found: words["uuid"].format(found[1]), one) for one in columns.values()]
    values = [one.replace("LATER", words["later"]).replace("EARLIER", words["earlier"]) for one in values]
    names = ", ".join(f'"{name}"' for name in columns)
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} ({names}) SELECT {', '.join(values)} FROM ({words['rows']}) AS numbers")


def fill_all() -> None:
    """A million sleepers in small: most wait for a message, some for a time, a few are due or owned."""
    fill(
        Dispatch._meta.db_table,
        chain_id="uuid(i)", run_id="uuid(i)", queue="'default'", priority="i % 3", definition="'tests.flow'",
        wakeup_at="CASE WHEN i % 1000 = 0 THEN EARLIER WHEN i % 3 = 0 THEN NULL ELSE LATER END",
        owner=f"CASE WHEN i % 500 = 1 THEN {OWNER} WHEN i % 500 < 4 THEN i END", epoch="1",
        hold="NULL", closing="FALSE", blocked_by="NULL", recoveries="0", started_at="NULL",
    )  # fmt: skip
    fill(
        WorkflowRun._meta.db_table,
        id="uuid(i)", chain_id="uuid(i)", workflow_id="'order-' || (i / 2)",
        open_workflow_id="CASE WHEN i % 2 = 0 THEN 'order-' || (i / 2) END", name="'tests.flow'", version="''",
        fingerprint="''", queue="'default'", priority="0", status="'running'", input="'[]'", created_at="EARLIER",
    )  # fmt: skip
    fill(
        HistoryEvent._meta.db_table,
        run_id="uuid(i / 10)", sequence="i % 10 + 1", type="'TimerStarted'", schema="1", time="EARLIER",
        data="""'{"duration":1}'""",
    )  # fmt: skip
    fill(
        ActivityTask._meta.db_table,
        chain_id="uuid(i)", run_id="uuid(i)", key="'a' || i", scheduled="2", workflow_id="'w'", name="'tests.activity'",
        queue="'default'", priority="i % 3", input="'[]'", options="'{}'", attempt="1", interruptions="0",
        due_at="CASE WHEN i % 1000 = 0 THEN EARLIER ELSE LATER END",
        worker=f"CASE WHEN i % 500 = 1 THEN {OWNER} WHEN i % 500 < 40 THEN i END",
        deadline="CASE WHEN i % 500 = 1 THEN EARLIER WHEN i % 500 < 40 THEN LATER END",
    )  # fmt: skip
    fill(ActivityOutcome._meta.db_table, chain_id="uuid(i)", key="'a'", attempt="1")
    fill(
        Update._meta.db_table,
        chain_id="uuid(i)", update_id="'u'", name="'add'", state="'completed'", created_at="EARLIER",
        closed_at="EARLIER", expires_at="CASE WHEN i % 1000 = 0 THEN EARLIER WHEN i % 2 = 0 THEN LATER END",
    )  # fmt: skip


def fill_inbox(*, every: int) -> None:
    """One message for each chain, or for one chain in ``every``."""
    fill(
        InboxMessage._meta.db_table,
        chain_id="uuid(i)", data="""'{"type":"cancel"}'""", created_at="EARLIER",
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {InboxMessage._meta.db_table} WHERE id % {every} != 0")


@pytest.fixture(scope="module")
def _tables(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        fill_all()
        _analyze()
        yield
        for model in (Dispatch, WorkflowRun, HistoryEvent, ActivityTask, ActivityOutcome, Update):
            model._default_manager.all()._raw_delete("default")


def _analyze() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


@pytest.fixture(autouse=True)
def _full(_tables: None, db: None) -> None:
    """The tables are filled once, and every test changes them in a transaction that is rolled back."""


def plans_of(verb: Callable[[], Any]) -> str:
    """Call ``verb`` and return the plans of all its statements."""
    plans = []

    def explain(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if not sql.startswith(("SAVEPOINT", "RELEASE")):
            word = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
            with closing(connection.create_cursor()) as cursor:  # not Django's own, which would come back here
                cursor.execute(f"{word} {sql}", params)
                plans.append("\n".join(str(row[-1]) for row in cursor.fetchall()))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        verb()
    assert plans
    return "\n".join(plans)


def scans(plans: str) -> list[str]:
    """The steps of plans that read one of our tables from end to end."""
    steps = [line.strip() for line in plans.splitlines()]
    return [step for step in steps if WHOLE_TABLE.search(step)]


def key(number: int) -> UUID:
    """The id of the row ``number``."""
    with connection.cursor() as cursor:
        words = POSTGRES if connection.vendor == "postgresql" else SQLITE
        cursor.execute("SELECT " + words["uuid"].format(number))
        [found] = cursor.fetchone()
    return found if isinstance(found, UUID) else UUID(found)


def test_a_plan_that_reads_a_whole_table_would_be_noticed() -> None:
    assert scans(plans_of(lambda: list(Dispatch.objects.filter(definition="x"))))
    assert scans(plans_of(lambda: list(InboxMessage.objects.filter(data="x"))))


def test_due_chains_are_found_by_their_index() -> None:
    plans = plans_of(lambda: list(dispatch.due("default", 1)[:50]))

    assert scans(plans) == []
    assert "durable_dispatch_due" in plans


def test_a_claim_reads_no_table_from_end_to_end() -> None:
    [level, *_] = levels.probe(["default"])[0]

    plans = plans_of(
        lambda: dispatch.claim(OWNER, level, definitions=["tests.flow"], limit=50),
    )

    assert scans(plans) == []
    assert "durable_dispatch_due" in plans


def test_the_levels_in_use_are_found_by_one_probe_each() -> None:
    now = clock.read()
    Schedule.objects.bulk_create(
        Schedule(name=f"schedule {number}", spec="{}", definition="tests.flow", input="", next_at=now, created_at=now)
        for number in range(2_000)
    )
    _analyze()

    plans = plans_of(lambda: levels.probe(["default", "empty"]))

    assert scans(plans) == []
    assert "durable_dispatch_due" in plans
    assert "durable_task_due" in plans


def test_due_tasks_are_found_by_their_index() -> None:
    plans = plans_of(lambda: list(tasks.due("default", 1)[:50]))

    assert scans(plans) == []
    assert "durable_task_due" in plans


def test_claimed_tasks_are_found_by_their_index() -> None:
    [level, *_] = levels.probe(["default"])[1]

    plans = plans_of(lambda: tasks.claim(OWNER, level, names=["tests.activity"], limit=50))

    assert scans(plans) == []
    assert "durable_task_due" in plans


def test_overdue_attempts_are_found_by_their_index() -> None:
    plans = plans_of(lambda: list(tasks.overdue()))

    assert scans(plans) == []
    assert "durable_task_deadline" in plans


def test_the_tasks_of_dead_workers_are_found_by_their_index() -> None:
    plans = plans_of(lambda: tasks.abandoned([OWNER]))

    assert scans(plans) == []
    assert "durable_task_worker" in plans


def test_a_task_is_found_by_its_activity() -> None:
    held = tasks.Held(key(1), "a1", OWNER, 1)

    plans = plans_of(lambda: tasks.locked([held]))

    assert scans(plans) == []
    assert re.search("durable_task_key|sqlite_autoindex_durable_activitytask", plans)


def test_the_messages_of_some_chains_are_found_by_their_index() -> None:
    fill_inbox(every=1)
    _analyze()

    plans = plans_of(lambda: inbox.read([key(1), key(2), key(3)]))

    assert scans(plans) == []
    assert "durable_inbox_chain" in plans


def test_the_poll_for_messages_costs_what_waits_and_not_what_sleeps() -> None:
    """A few messages, and chains by the thousand: the inbox is read whole, the chains by their key."""
    fill_inbox(every=1000)
    _analyze()

    plans = plans_of(lambda: inbox.owners_of_waiting(OWNER))

    assert [step for step in scans(plans) if "inbox" not in step and not step.startswith("SCAN m")] == []
    assert "dispatch" in plans or "SEARCH d " in plans


def test_the_chains_of_a_worker_are_found_by_their_index() -> None:
    plans = plans_of(lambda: dispatch.owned(OWNER))

    assert scans(plans) == []
    assert "durable_dispatch_owned" in plans


def test_recovery_finds_the_chains_of_dead_workers_by_their_index() -> None:
    plans = plans_of(lambda: recovery.release_chains([OWNER]))

    assert scans(plans) == []
    assert "durable_dispatch_owned" in plans


def test_due_chains_of_unknown_code_are_found_level_by_level() -> None:
    """Whatever sleeps is not looked at: a range of the index for each level, and its queues one by one."""
    Dispatch.objects.filter(pk__in=[key(7), key(8)]).update(owner=None, wakeup_at=clock.read() - timedelta(minutes=1))

    plans = plans_of(lambda: missing.push_back(["tests.other"]))

    assert scans(plans) == []
    assert re.search(r"queue\b.*=.*priority\b.*=.*wakeup_at\b.*<", plans)
    assert re.search(r"\bqueue\b[^=]*>[^=]", plans)


def test_blocked_chains_are_found_by_their_index_and_without_those_of_the_same_code() -> None:
    blocked = Dispatch.objects.filter(owner=None, wakeup_at__isnull=False)
    blocked.update(hold="blocked", blocked_by="this code")
    _analyze()

    plans = plans_of(lambda: dispatch.offer_blocked("tests.flow", ["this code"]))

    assert scans(plans) == []
    assert "durable_dispatch_blocked" in plans
    assert re.search(r"definition\b.*=.*blocked_by\b.*>.*blocked_by\b.*<", plans)


def test_histories_are_read_by_their_primary_key() -> None:
    plans = plans_of(lambda: history.read([key(1), key(2), key(3)]))

    assert scans(plans) == []
    assert "historyevent" in plans


def test_the_end_of_a_history_is_found_by_its_primary_key() -> None:
    assert scans(plans_of(lambda: history.last_sequence(key(5)))) == []


def test_the_latest_run_of_a_workflow_id_is_found_by_its_index() -> None:
    plans = plans_of(lambda: runs.latest("order-77"))

    assert scans(plans) == []
    assert "durable_run_workflow_id" in plans


def test_the_open_run_of_a_workflow_id_is_found_by_its_unique_key() -> None:
    plans = plans_of(lambda: runs.open_chain("order-77"))

    assert scans(plans) == []
    assert "open_workflow_id" in plans


def test_updates_are_found_by_their_key() -> None:
    completed = updates.Reply(key(7), "u", key(7), State.COMPLETED)

    assert scans(plans_of(lambda: updates.state(key(7), "u"))) == []
    assert scans(plans_of(lambda: updates.answer([completed]))) == []


def test_the_end_of_a_chain_finds_everything_by_key() -> None:
    ending = runs.Ending(key(9), key(9), Status.COMPLETED)

    assert scans(plans_of(lambda: runs.close([ending]))) == []


def test_replies_that_are_to_be_forgotten_are_found_by_their_index() -> None:
    plans = plans_of(updates.prune)

    assert scans(plans) == []
    assert "durable_update_expires" in plans


def test_waking_and_releasing_find_their_chains_by_key() -> None:
    assert scans(plans_of(lambda: dispatch.make_due([key(3), key(6)]))) == []
    assert scans(plans_of(lambda: dispatch.shared([key(3), key(6)]))) == []
    assert scans(plans_of(lambda: dispatch.locked_for_end([key(3), key(6)]))) == []
