"""Every hot query uses its index, however much sleeps: none reads a table from end to end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from django_durable import durable
from django_durable.history.replies import State
from django_durable.history.status import Status
from django_durable.models import (
    ActivityOutcome,
    ActivityTask,
    Dispatch,
    HistoryEvent,
    InboxMessage,
    PrunedRun,
    Schedule,
    Update,
    WorkflowRun,
)
from django_durable.store import (
    admission,
    backlog,
    claims,
    clock,
    dispatch,
    history,
    inbox,
    levels,
    missing,
    pruning,
    recovery,
    remains,
    runs,
    tasks,
    updates,
)
from tests.integration.store import chains

pytestmark = pytest.mark.django_db

ROWS = 20_000
OWNER = 1
POSTGRES = {
    "rows": f"SELECT i FROM generate_series(1, {ROWS}) AS numbers(i)",
    "uuid": "md5(({})::text)::uuid",
    "later": "now() + interval '1 day'",
    "earlier": "now() - interval '1 minute'",
    "order_id": "'order-' || (i / 2)",
    "code": "'a' || i",
    "tenth": "i / 10",
}
MARIADB = {
    "rows": f"SELECT seq AS i FROM seq_1_to_{ROWS}",
    "uuid": "CAST(INSERT(INSERT(md5({}), 13, 1, '7'), 17, 1, '8') AS UUID)",  # of a known version and variant
    "later": "utc_timestamp(6) + interval 1 day",
    "earlier": "utc_timestamp(6) - interval 1 minute",
    "order_id": "CONCAT('order-', i DIV 2)",
    "code": "CONCAT('a', i)",
    "tenth": "i DIV 10",
}
SQLITE = {
    "rows": f"WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < {ROWS}) "
    "SELECT i FROM numbers",
    "uuid": "printf('%032x', {})",
    "later": "datetime('now', '+1 day')",
    "earlier": "datetime('now', '-1 minute')",
    "order_id": "'order-' || (i / 2)",
    "code": "'a' || i",
    "tenth": "i / 10",
}
WORDS = {"postgresql": POSTGRES, "mysql": MARIADB, "sqlite": SQLITE}


def last(row: Sequence[Any]) -> str:
    return str(row[-1])


def step_of_mariadb(row: Sequence[Any]) -> str:
    """The way of reading, the table, the index and how much of its key is used; what is said of it beside that."""
    _, _, table, way, _, index, length, _, _, extra, *_ = row
    return f"{way} {table} {index} {length} {extra}"


STEP = {"postgresql": last, "mysql": step_of_mariadb, "sqlite": last}


# SQLite also scans rows that the statement itself has made: lists of queues, levels and keys found so far, the latest
# runs; on MariaDB "these" are keys that a statement was given. Of queues there are few: a whole table is one page.
WHOLE_TABLE = re.compile(
    r"Seq Scan on durable_(?!queue)|"
    r"^SCAN (?!queues|chains|tasks|recent|found|picked|durable_queue|(\d+ )?CONSTANT)(?!.*USING (COVERING )?INDEX)"
    r"|^(ALL|index) (?!<|these|durable_queue)"
)


def fill(table: str, **columns: str) -> None:
    """Insert ROWS rows; each column is an SQL expression of ``i``."""
    words = WORDS[connection.vendor]
    values = [re.sub(r"uuid\((.*)\)", lambda found: words["uuid"].format(found[1]), one) for one in columns.values()]
    for name in ("later", "earlier", "order_id", "code", "tenth"):
        values = [one.replace(name.upper(), words[name]) for one in values]
    names = ", ".join(connection.ops.quote_name(name) for name in columns)
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
        id="uuid(i)", chain_id="uuid(i)", workflow_id="ORDER_ID",
        open_workflow_id="CASE WHEN i % 2 = 0 THEN ORDER_ID END", name="'tests.flow'", version="''",
        fingerprint="''", queue="'default'", priority="0", status="'running'", input="'[]'", created_at="EARLIER",
    )  # fmt: skip
    fill(
        HistoryEvent._meta.db_table,
        run_id="uuid(TENTH)", sequence="i % 10 + 1", type="'TimerStarted'", schema="1", time="EARLIER",
        data="""'{"duration":1}'""",
    )  # fmt: skip
    fill(
        ActivityTask._meta.db_table,
        chain_id="uuid(i)", run_id="uuid(i)", key="CODE", scheduled="2", workflow_id="'w'",
        name="'tests.activity'",
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
        for model in chains.our_models():  # all of them: MariaDB commits before it gathers statistics
            model._default_manager.all()._raw_delete("default")


def _analyze() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute(f"ANALYZE TABLE {', '.join(model._meta.db_table for model in chains.our_models())}")
            cursor.fetchall()
        else:
            cursor.execute("ANALYZE")


@pytest.fixture(autouse=True)
def _full(_tables: None, db: None) -> None:
    """The tables are filled once, and every test changes them in a transaction that is rolled back."""


def plans_of(verb: Callable[[], Any]) -> str:
    """Call ``verb`` and return the plans of all its statements."""
    plans = []

    def explain(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if not sql.startswith(("SAVEPOINT", "RELEASE", "SET ")):
            word = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
            with closing(connection.create_cursor()) as cursor:  # not Django's own, which would come back here
                cursor.execute(f"{word} {sql}", params)
                plans.append("\n".join(STEP[connection.vendor](row) for row in cursor.fetchall()))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        verb()
    assert plans
    return "\n".join(plans)


def scans(plans: str) -> list[str]:
    """The steps of plans that read one of our tables from end to end."""
    steps = [line.strip() for line in plans.splitlines()]
    return [step for step in steps if WHOLE_TABLE.search(step)]


def uses(index: str, plans: str) -> bool:
    """Whether the index, or what stands in its place on MariaDB, which has no partial ones, is in these plans."""
    return index in plans or (connection.vendor == "mysql" and re.sub("(due|owned|worker)$", "open", index) in plans)


def is_known_beforehand(plans: str) -> bool:
    """Whether MariaDB has found a smallest or greatest value by one probe, before there was a plan to carry out."""
    return connection.vendor == "mysql" and "Select tables optimized away" in plans


def key(number: int) -> UUID:
    """The id of the row ``number``."""
    with connection.cursor() as cursor:
        words = WORDS[connection.vendor]
        cursor.execute("SELECT " + words["uuid"].format(number))
        [found] = cursor.fetchone()
    return found if isinstance(found, UUID) else UUID(found)


def test_a_plan_that_reads_a_whole_table_would_be_noticed() -> None:
    assert scans(plans_of(lambda: list(Dispatch.objects.filter(recoveries=9))))
    assert scans(plans_of(lambda: list(InboxMessage.objects.filter(data="x"))))


def test_due_chains_are_found_by_their_index() -> None:
    plans = plans_of(lambda: list(claims.due("default", 1)[:50]))

    assert scans(plans) == []
    assert uses("durable_dispatch_due", plans)


def test_what_waits_in_each_queue_is_counted_by_indexes() -> None:
    now = clock.read()
    WorkflowRun.objects.filter(pk__in=[key(2), key(4)]).update(status=Status.COMPLETED, closed_at=now)
    _analyze()

    plans = plans_of(backlog.read)

    assert [step for step in scans(plans) if "worker" not in step] == []
    for index in ("dispatch_due", "task_due", "dispatch_owned", "task_worker", "run_created", "run_closed"):
        assert uses(f"durable_{index}", plans)


def test_a_claim_reads_no_table_from_end_to_end() -> None:
    [level, *_] = levels.probe(["default"])[0]

    plans = plans_of(
        lambda: claims.claim(OWNER, level, definitions=["tests.flow"], limit=50),
    )

    assert scans(plans) == []
    assert uses("durable_dispatch_due", plans)


def test_the_levels_in_use_are_found_by_one_probe_each() -> None:
    now = clock.read()
    Schedule.objects.bulk_create(
        Schedule(name=f"schedule {number}", spec="{}", definition="tests.flow", input="", next_at=now, created_at=now)
        for number in range(2_000)
    )
    _analyze()

    plans = plans_of(lambda: levels.probe(["default", "empty"]))

    assert scans(plans) == []
    assert uses("durable_dispatch_due", plans) or is_known_beforehand(plans)
    assert uses("durable_task_due", plans) or is_known_beforehand(plans)


@pytest.mark.postgres
def test_the_search_for_levels_reads_no_waiting_set_before_there_are_statistics() -> None:
    ours = [Dispatch._meta.db_table, ActivityTask._meta.db_table]
    with connection.cursor() as cursor:  # as if they had just been filled
        cursor.execute("DELETE FROM pg_statistic WHERE starelid = ANY(%s::regclass[])", [ours])
        cursor.execute(
            "UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE oid = ANY(%(ours)s::regclass[]) OR oid IN "
            "(SELECT indexrelid FROM pg_index WHERE indrelid = ANY(%(ours)s::regclass[]))",
            {"ours": ours},
        )

    plans = plans_of(lambda: levels.probe(["default"]))

    assert not re.search("Bitmap Index Scan on durable_(task|dispatch)_due", plans)
    for index in ("task_expires", "task_start", "dispatch_late"):
        assert f"Scan using durable_{index}" in plans


def test_what_is_due_next_beside_what_waits_is_found_by_its_index() -> None:
    found = levels.probe(["default"])

    plans = plans_of(lambda: levels.next_of(found, ["default"]))

    assert scans(plans) == []
    assert uses("durable_dispatch_due", plans)
    assert uses("durable_task_due", plans)


def test_due_tasks_are_found_by_their_index() -> None:
    plans = plans_of(lambda: list(tasks.due("default", 1)[:50]))

    assert scans(plans) == []
    assert uses("durable_task_due", plans)


def test_claimed_tasks_are_found_by_their_index() -> None:
    [level, *_] = levels.probe(["default"])[1]

    plans = plans_of(lambda: tasks.claim(OWNER, level, names=["tests.activity"], limit=50))

    assert scans(plans) == []
    assert uses("durable_task_due", plans)


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

    plans = plans_of(lambda: inbox.awaited(OWNER))

    assert [step for step in scans(plans) if "inbox" not in step and not step.startswith(("SCAN m", "ALL m "))] == []
    assert "dispatch" in plans or "SEARCH d " in plans or "eq_ref d PRIMARY" in plans


def test_deadlines_of_chains_that_nobody_has_are_found_by_their_index() -> None:
    nobodys = Dispatch.objects.filter(owner=None)
    nobodys.update(deadline=clock.read() + timedelta(hours=1))
    nobodys.filter(pk__in=[key(200), key(400)]).update(deadline=clock.read())
    _analyze()

    plans = plans_of(dispatch.late)

    assert scans(plans) == []
    assert "durable_dispatch_limits" in plans or "durable_dispatch_late" in plans


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
    if connection.vendor == "mysql":
        assert re.search(r"range durable_dispatch durable_dispatch_open 422 ", plans)  # bytes of all four columns
        assert is_known_beforehand(plans)
    else:
        assert re.search(r"queue\b.*=.*priority\b.*=.*wakeup_at\b.*<", plans)
        assert re.search(r"\bqueue\b[^=]*>[^=]", plans)


def test_blocked_chains_are_found_by_their_index_and_without_those_of_the_same_code() -> None:
    blocked = Dispatch.objects.filter(owner=None, wakeup_at__isnull=False)
    blocked.update(hold="blocked", blocked_by="this code")
    _analyze()

    plans = plans_of(lambda: dispatch.offer_blocked("tests.flow", ["this code"]))

    assert scans(plans) == []
    assert "durable_dispatch_blocked" in plans
    both = "durable_dispatch_blocked 1581 " if connection.vendor == "mysql" else r"blocked_by\b.*>.*blocked_by\b.*<"
    assert re.search(both, plans)  # bytes of both columns on MariaDB


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
    fill_inbox(every=1)
    _analyze()
    ending = runs.Ending(key(9), key(9), Status.COMPLETED)

    assert scans(plans_of(lambda: runs.close([ending]))) == []


def test_replies_that_are_to_be_forgotten_are_found_by_their_index() -> None:
    plans = plans_of(updates.prune)

    assert scans(plans) == []
    assert "durable_update_expires" in plans


def test_what_has_been_kept_for_long_enough_is_found_by_its_index() -> None:
    now = clock.read()
    ended = now - timedelta(days=40)
    WorkflowRun.objects.filter(open_workflow_id=None).update(status=Status.COMPLETED, closed_at=ended)
    _analyze()
    behind = pruning.Place(ended, key(1))

    first = plans_of(lambda: pruning.ended("tests.flow", "completed", now, after=None, limit=200))
    plans = plans_of(lambda: pruning.ended("tests.flow", "completed", now, after=behind, limit=200))

    assert scans(first + plans) == []
    assert "durable_run_ended" in first
    assert "durable_run_ended" in plans
    assert "SORT" not in (first + plans).upper()


def test_families_are_deleted_by_key() -> None:
    dispatch.rows().filter(pk__in=[key(11), key(12)]).delete()
    Update.objects.filter(chain_id__in=[key(11), key(12)]).delete()
    WorkflowRun.objects.filter(pk__in=[key(11), key(12)]).update(status=Status.COMPLETED, closed_at=clock.read())
    _analyze()
    chains = pruning.chains_of([key(11), key(12)])

    assert scans(plans_of(lambda: pruning.children_of([key(11), key(12)]))) == []
    plans = plans_of(lambda: pruning.bury([[chain] for chain in chains]))
    empty = ("runattribute", "inboxmessage", "debouncedstart")
    assert [step for step in scans(plans) if not any(table in step for table in empty)] == []
    assert PrunedRun.objects.count() == 2
    plans = plans_of(lambda: remains.clear(remains.next_slices()))
    assert [step for step in scans(plans) if "prunedrun" not in step] == []


def test_waking_and_releasing_find_their_chains_by_key() -> None:
    assert scans(plans_of(lambda: dispatch.make_due([key(3), key(6)]))) == []
    assert scans(plans_of(lambda: dispatch.shared([key(3), key(6)]))) == []
    assert scans(plans_of(lambda: dispatch.locked_for_end([key(3), key(6)]))) == []


@pytest.mark.parametrize("limits", [{"concurrency": 100_000}, {"concurrency_per_key": 50}, {"fair": True}], ids=str)
@pytest.mark.parametrize("counts", ["activities", "workflows"])
def test_a_claim_from_a_governed_queue_reads_no_table_from_end_to_end(limits: dict[str, Any], counts: Any) -> None:
    durable.set_queue("default", counts=counts, **limits)
    Dispatch.objects.filter(wakeup_at__lte=clock.now()).update(admitted=False)  # as if they had not begun
    found = levels.probe(["default"])

    if counts == "activities":
        claim = partial(admission.claim_tasks, OWNER, found.tasks[0], names=["tests.activity"], limit=5)
    else:
        claim = partial(admission.claim_chains, OWNER, found.chains[0], definitions=["tests.flow"], limit=5)
    plans = plans_of(claim)

    table = "task" if counts == "activities" else "dispatch"
    assert scans(plans) == []
    if connection.vendor != "mysql":  # whose indexes hold all rows, so that several of them serve
        assert f"durable_{table}_{'due' if 'concurrency' in limits else 'keys'}" in plans
        assert (f"durable_{table}_in" in plans) == ("fair" not in limits)
