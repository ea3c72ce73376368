"""Rows: what the tables promise by themselves."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection

from django_durable import PayloadError, durable
from django_durable.history import events, messages
from django_durable.models import (
    ActivityOutcome,
    ActivityTask,
    Dispatch,
    Gate,
    HistoryEvent,
    InboxMessage,
    WorkflowRun,
)
from django_durable.payloads.payload import json_payload
from django_durable.store import database, flush, history, identifiers, inbox, outcomes, tasks
from tests.flows import workflows
from tests.integration.store import chains
from tests.integration.store.sessions import Session

pytestmark = pytest.mark.django_db(transaction=True)

# What a database that parses JSON would change: the order of keys, and a float that looks like an integer.
VERBATIM = '{"zebra":1e16,"a":1.0,"bb":{"z":[1,2.50],"b":null}}'


def test_a_history_has_one_event_in_each_place() -> None:
    chain = chains.start()
    history.append([chains.event(chain, 2)])

    with pytest.raises(IntegrityError):
        history.append([chains.event(chain, 2)])

    assert chains.history_of(chain) == ["RunStarted", "TimerStarted"]


def test_a_refused_event_takes_its_whole_batch_along() -> None:
    chain = chains.start()

    with pytest.raises(IntegrityError), database.writing():
        history.append([chains.event(chain, 2), chains.event(chain, 1)])

    assert chains.history_of(chain) == ["RunStarted"]


def test_an_activity_has_one_task_row() -> None:
    claimed = chains.owned(chains.worker())
    tasks.insert([chains.task(claimed, "a")])

    with pytest.raises(IntegrityError):
        tasks.insert([chains.task(claimed, "a")])


def test_an_activity_has_one_outcome() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    claim = outcomes.Claim(claimed.chain_id, "a", owner, 1)
    with database.writing():
        outcomes.record_success(claim, chains.RESULT)

    with pytest.raises(IntegrityError), database.writing():
        outcomes.record_success(claim, chains.RESULT)


def test_outcomes_and_tasks_of_different_chains_may_have_the_same_key() -> None:
    owner = chains.worker()
    one, other = chains.owned(owner), chains.owned(owner)

    tasks.insert([chains.task(one, "a"), chains.task(other, "a")])
    with database.writing():
        outcomes.settle([(one.chain_id, "a"), (other.chain_id, "a")])

    assert ActivityTask.objects.count() == ActivityOutcome.objects.count() == 2


def test_the_end_of_a_chain_deletes_everything_but_its_run_and_history() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner, workflow_id="ending")
    other = chains.owned(owner, workflow_id="staying")
    for one in (claimed, other):
        chains.send(one.chain_id)
        tasks.insert([chains.task(one)])
        outcomes.settle([(one.chain_id, f"{one.run_id.hex}-2")])

    consumed = chains.message_ids(claimed.chain_id)
    assert chains.verdicts(flush.flush(owner, [chains.write(claimed, ends=True, consumed=consumed)])) == ["written"]

    for table in (Dispatch, InboxMessage, ActivityTask, ActivityOutcome):
        assert list(table.objects.values_list("chain_id", flat=True)) == [other.chain_id]
    ended = chains.run_of(claimed.chain_id)
    assert (ended.status, ended.open_workflow_id, ended.result) == ("completed", None, chains.RESULT)
    assert ended.started_at is not None
    assert ended.closed_at is not None
    assert chains.history_of(claimed.run_id) == ["RunStarted", "TimerStarted"]


def test_every_id_that_is_made_is_taken_as_it_is_and_sorted_as_it_sorts() -> None:
    """MariaDB's type for them has an order of its own for each version, and refuses some of some versions."""
    ids = [identifiers.derived("key", str(number)) for number in range(1_000)]
    ids += [identifiers.uuid7() for _ in range(1_000)]

    Gate.objects.bulk_create([Gate(chain_id=one) for one in ids])

    assert list(Gate.objects.order_by("pk").values_list("pk", flat=True)) == sorted(ids)
    assert Gate.objects.filter(pk__in=ids[:500]).count() == 500


def test_pending_is_epoch_zero_and_not_a_write() -> None:
    chain = chains.start("fresh")
    assert durable.get_workflow_status("fresh").status == "pending"
    before = WorkflowRun.objects.filter(pk=chain).values().get()

    chains.claim(chains.worker())

    assert durable.get_workflow_status("fresh").status == "running"
    assert WorkflowRun.objects.filter(pk=chain).values().get() == before


@pytest.mark.postgres
def test_steps_claims_and_releases_do_not_write_the_run_row(session: Session) -> None:
    owner = chains.worker()
    chain = chains.start()
    before = session.execute("SELECT ctid::text, xmin::text FROM durable_workflowrun WHERE id = %s", chain)

    [claimed] = chains.claim(owner)
    flush.flush(owner, [chains.write(claimed, events=3)])
    chains.send(chain)

    session.commit()
    after = session.execute("SELECT ctid::text, xmin::text FROM durable_workflowrun WHERE id = %s", chain)
    assert after == before


@pytest.mark.postgres
def test_each_index_of_the_dispatch_table_holds_only_the_rows_that_it_is_for(session: Session) -> None:
    """Those of blocked chains and of what queues have let in are empty where there is none of either."""
    conditions = session.execute(
        "SELECT indexrelid::regclass::text, pg_get_expr(indpred, indrelid) FROM pg_index "
        "WHERE indrelid = 'durable_dispatch'::regclass AND NOT indisprimary ORDER BY 1"
    )

    assert dict(conditions) == {
        "durable_dispatch_blocked": "(blocked_by IS NOT NULL)",
        "durable_dispatch_due": "((owner IS NULL) AND (wakeup_at IS NOT NULL))",
        "durable_dispatch_going_on": "(admitted AND (owner IS NULL) AND (wakeup_at IS NOT NULL))",
        "durable_dispatch_in": "admitted",
        "durable_dispatch_keys": "((NOT admitted) AND (owner IS NULL) AND (wakeup_at IS NOT NULL))",
        "durable_dispatch_late": "((deadline IS NOT NULL) AND (owner IS NULL))",
        "durable_dispatch_owned": "(owner IS NOT NULL)",
    }


@pytest.mark.postgres
@pytest.mark.parametrize("table", ["durable_dispatch", "durable_inboxmessage"])
def test_tables_that_change_all_the_time_have_autovacuum_settings_of_their_own(session: Session, table: str) -> None:
    [(options,)] = session.execute("SELECT reloptions FROM pg_class WHERE oid = %s::regclass", table)

    assert any(option.startswith("autovacuum_") for option in options or [])


@pytest.mark.postgres
def test_dispatch_pages_keep_room_for_updates_in_place(session: Session) -> None:
    [(options,)] = session.execute("SELECT reloptions FROM pg_class WHERE oid = 'durable_dispatch'::regclass")

    assert "fillfactor=70" in (options or [])


def test_no_table_has_a_foreign_key() -> None:
    with connection.cursor() as cursor:
        for model in chains.our_models():
            constraints = connection.introspection.get_constraints(cursor, model._meta.db_table)
            assert not [name for name, one in constraints.items() if one["foreign_key"]]


# Messages


@pytest.mark.server
def test_ids_of_messages_are_not_in_commit_order_and_none_is_lost_for_it(session: Session) -> None:
    chain = chains.sleeping()
    late = messages.encode(chains.signal("late"))
    session.execute("INSERT INTO durable_inboxmessage (chain_id, data, created_at) VALUES (%s, %s, now())", chain, late)
    chains.send(chain, "early")
    read = inbox.read([chain])[chain]
    assert chains.waiting(chain) == ["early"]

    session.commit()
    inbox.consume([one.id for one in read])

    assert chains.waiting(chain) == ["late"]
    assert inbox.read([chain])[chain][0].id < read[0].id


def test_a_message_is_consumed_in_the_commit_that_holds_its_event_and_not_otherwise() -> None:
    owner = chains.worker()
    claimed = chains.owned(owner)
    chains.send(claimed.chain_id)
    consumed = chains.message_ids(claimed.chain_id)
    taken = flush.RunWrite(
        chain_id=claimed.chain_id,
        run_id=claimed.run_id,
        epoch=claimed.epoch,
        events=(chains.event(claimed.run_id, 1),),
        consumed=consumed,
    )

    with pytest.raises(IntegrityError):
        flush.flush(owner, [taken])
    assert chains.message_ids(claimed.chain_id) == consumed

    flush.flush(owner, [chains.write(claimed, consumed=consumed)])
    assert chains.message_ids(claimed.chain_id) == ()


# Payloads


def test_payloads_are_kept_byte_for_byte_in_events() -> None:
    claimed = chains.owned(chains.worker())
    signal = events.SignalReceived(name="ping", payload=json_payload(VERBATIM.encode()))

    history.append([chains.event(claimed.run_id, 2, signal)])

    [_, recorded] = history.read([claimed.run_id])[claimed.run_id]
    assert isinstance(recorded.event, events.SignalReceived)
    assert bytes(recorded.event.payload.data).decode() == VERBATIM


def test_payloads_are_kept_byte_for_byte_in_messages() -> None:
    chain = chains.sleeping()
    with database.writing():
        inbox.send(chain, messages.Signal(name="ping", payload=json_payload(VERBATIM.encode())))

    [one] = inbox.read([chain])[chain]
    assert isinstance(one.message, messages.Signal)
    assert bytes(one.message.payload.data).decode() == VERBATIM


def test_inputs_and_results_are_kept_in_the_order_and_with_the_numbers_that_they_were_given() -> None:
    value = {"zebra": 1e16, "a": 1.0, "bb": [True, None, "ä\u2028"]}
    handle = durable.start_workflow(workflows.echo, value)

    [started] = handle.history()

    assert repr(started.data["input"]) == repr(handle.status().input)
    assert repr(value) in repr(started.data["input"])


@pytest.mark.parametrize(
    "value", ["a\x00b", ["\ud800"], float("nan"), {"limit": float("inf")}], ids=["nul", "surrogate", "nan", "infinity"]
)
def test_what_cannot_be_stored_exactly_is_refused_before_anything_is_written(value: object) -> None:
    with pytest.raises(PayloadError):
        durable.start_workflow(workflows.echo, value)

    assert chains.everything_stored() == {}


def test_a_signal_that_cannot_be_stored_exactly_leaves_nothing() -> None:
    handle = durable.start_workflow(workflows.echo, 1)

    with pytest.raises(PayloadError):
        handle.signal("ping", "\x00")

    assert InboxMessage.objects.count() == 0


LARGE = '"' * 1_000_000
"""As large as a payload may be, and four times as large in a statement: each character is escaped, twice."""


def test_starts_and_messages_that_are_longer_together_than_a_statement_may_be_are_stored() -> None:
    handles = durable.start_workflows([workflows.echo.call(LARGE) for _ in range(10)])
    assert {handle.status().input["value"] for handle in handles} == {LARGE}

    assert durable.signal_workflows(WorkflowRun.objects.all(), workflows.approved(LARGE)).done == 10

    [data] = set(InboxMessage.objects.values_list("data", flat=True))
    assert len(data) > 2 * len(LARGE)


def test_text_that_only_looks_like_a_nul_is_stored() -> None:
    handle = durable.start_workflow(workflows.echo, "\\u0000")

    assert "\\u0000" in repr(handle.history()[0].data["input"])
    assert HistoryEvent.objects.count() == 1
