"""Starts: rows of a run, its place in line and its first event, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from django_durable.history import codec, events
from django_durable.history.status import Status
from django_durable.models import Dispatch, HistoryEvent, WorkflowRun
from django_durable.payloads import payload
from django_durable.store import (
    attributes,
    clock,
    database,
    dispatch,
    gates,
    history,
    portions,
    runs,
    status_cache,
    taken,
)


class NewRun(NamedTuple):
    """A run on its way to the tables.

    ``delay``: from the insert until it begins, which is the time of its first event; or ``start_at``, unless that has
    passed. ``execution_timeout``: from the insert, for the whole chain; ``run_timeout``: from its beginning, for each
    of the chain's runs. ``admitted``: it waits for no turn in its queue.
    """

    run_id: UUID
    workflow_id: str
    name: str
    version: str
    fingerprint: str
    definition: str
    queue: str
    priority: int
    started: events.RunStarted
    partition_key: str = ""
    admitted: bool = False
    delay: timedelta | None = None
    start_at: datetime | None = None
    execution_timeout: timedelta | None = None
    run_timeout: timedelta | None = None
    label: str = ""
    headers: str | None = None
    retry: str | None = None
    parent_chain_id: UUID | None = None
    parent_run_id: UUID | None = None
    parent_key: str | None = None
    parent_close: str = ""
    subject_type: str | None = None
    subject_id: str | None = None
    open_subject: str | None = None
    open_singleton: str | None = None
    schedule: str | None = None
    attributes: Mapping[str, Any] | None = None


def insert(new: NewRun) -> bool:
    """Start a run in the caller's transaction. False: its workflow id belongs to an open run.

    Meeting an uncommitted run of the same id, or one that is just closing, this waits for that transaction's end.
    """
    return bool(insert_many([new]))


def insert_many(new: Sequence[NewRun]) -> list[UUID]:
    """Start runs; returns the ids of those whose workflow id was free."""
    if not new:
        return []
    started = _insert_at_once(new) if database.is_postgres() else _insert_each(new)
    status_cache.started({run.workflow_id: run.run_id for run in new if run.workflow_id != str(run.run_id)})
    shown = {run.run_id: run.attributes for run in new if run.attributes}
    if shown:
        attributes.write([(run_id, shown[run_id]) for run_id in started if run_id in shown])
    return started


_PLAIN = (  # columns of the run that are those of ``NewRun``
    "workflow_id, name, version, fingerprint, queue, priority, partition_key, input, label, headers, retry, "
    "run_timeout, parent_chain_id, parent_run_id, parent_key, parent_close, subject_type, subject_id, open_subject, "
    "open_singleton, schedule"
)
_START = f"""
WITH wanted AS MATERIALIZED (
    SELECT *, GREATEST(now, start_at, now + delay) AS begins
    FROM (SELECT *, {{now}} AS now FROM json_to_recordset(%s::json) AS row(
        run_id uuid, workflow_id text, name text, version text, fingerprint text, definition text, queue text,
        priority smallint, partition_key text, admitted boolean, input text, event text, schema smallint,
        delay interval, start_at timestamptz, execution_timeout interval, run_timeout interval, label text,
        headers text, retry text, parent_chain_id uuid, parent_run_id uuid, parent_key text, parent_close text,
        subject_type text, subject_id text, open_subject text, open_singleton text, schedule text)
    ) AS given),
run AS (
    INSERT INTO {WorkflowRun._meta.db_table} (id, chain_id, open_workflow_id, status, created_at, execution_deadline,
        {_PLAIN})
    SELECT run_id, run_id, workflow_id, '{Status.RUNNING}', now, now + execution_timeout, {_PLAIN}
    FROM wanted ON CONFLICT DO NOTHING RETURNING id),
chain AS (
    INSERT INTO {Dispatch._meta.db_table} (chain_id, run_id, queue, priority, partition_key, admitted, definition,
        wakeup_at, hold, deadline, epoch, closing, recoveries)
    SELECT run_id, run_id, queue, priority, partition_key, admitted, definition, LEAST(begins, now + execution_timeout),
        CASE WHEN begins > now THEN '{dispatch.DELAYED}' END,
        LEAST(now + execution_timeout, begins + run_timeout), 0, false, 0
    FROM wanted JOIN run ON id = run_id),
event AS (
    INSERT INTO {HistoryEvent._meta.db_table} (run_id, sequence, type, schema, time, data)
    SELECT run_id, 1, 'RunStarted', schema, begins, event FROM wanted JOIN run ON id = run_id)
SELECT id FROM run
"""


def _insert_at_once(new: Sequence[NewRun]) -> list[UUID]:
    """One statement: a start costs its caller one round trip."""
    records = [
        {name: value for name, value in run._asdict().items() if value is not None}
        | {
            "started": None,
            "attributes": None,
            "input": payload.dump(run.started.input),
            "event": codec.encode(run.started).decode(),
            "schema": codec.SCHEMA,
        }
        for run in new
    ]
    now, params = clock.sql()
    found = database.select(_START.format(now=now), [*params, msgspec.json.encode(records).decode()])
    return [row[0] for row in found]


def _insert_each(new: Sequence[NewRun]) -> list[UUID]:
    now = clock.read()
    free = taken.apart_from_taken([_run_row(run, now) for run in new])
    if not free:
        return []
    for rows in portions.portions(free, lambda row: len(row.input)):
        runs.rows().bulk_create(rows, ignore_conflicts=True)
    ids = [row.pk for row in free]
    inserted = set(runs.rows().filter(pk__in=ids).values_list("pk", flat=True)) - history.begun(ids)  # by others
    started = [run for run in new if run.run_id in inserted]
    dispatch.rows().bulk_create([_dispatch_row(run, now) for run in started])
    gates.put_up([run.run_id for run in started])
    history.append([history.Row.of(run.run_id, 1, _begins(run, now), run.started) for run in started])
    return [run.run_id for run in started]


def _begins(new: NewRun, now: datetime) -> datetime:
    return max(now, new.start_at or now, now + (new.delay or timedelta(0)))


def _run_row(new: NewRun, now: datetime) -> WorkflowRun:
    return WorkflowRun(
        id=new.run_id,
        chain_id=new.run_id,
        workflow_id=new.workflow_id,
        open_workflow_id=new.workflow_id,
        name=new.name,
        version=new.version,
        fingerprint=new.fingerprint,
        queue=new.queue,
        priority=new.priority,
        partition_key=new.partition_key,
        status=Status.RUNNING,
        input=payload.dump(new.started.input),
        label=new.label,
        headers=new.headers,
        retry=new.retry,
        run_timeout=new.run_timeout,
        execution_deadline=now + new.execution_timeout if new.execution_timeout is not None else None,
        parent_chain_id=new.parent_chain_id,
        parent_run_id=new.parent_run_id,
        parent_key=new.parent_key,
        parent_close=new.parent_close,
        subject_type=new.subject_type,
        subject_id=new.subject_id,
        open_subject=new.open_subject,
        open_singleton=new.open_singleton,
        schedule=new.schedule,
        created_at=now,
    )


def _dispatch_row(new: NewRun, now: datetime) -> Dispatch:
    begins = _begins(new, now)
    deadlines = [
        *([now + new.execution_timeout] if new.execution_timeout is not None else []),
        *([begins + new.run_timeout] if new.run_timeout is not None else []),
    ]
    return Dispatch(
        chain_id=new.run_id,
        run_id=new.run_id,
        queue=new.queue,
        priority=new.priority,
        partition_key=new.partition_key,
        admitted=new.admitted,
        definition=new.definition,
        wakeup_at=min([begins, *deadlines]),
        deadline=min(deadlines, default=None),
        hold=dispatch.DELAYED if begins > now else None,
    )
