"""The next run of a chain: it takes the place of the one that has ended, with all that belongs to the chain."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db.models import Case, F, Value, When

from django_durable.definitions.subject import Subject
from django_durable.definitions.workflow import key_of
from django_durable.history import events
from django_durable.history.status import Status
from django_durable.models import Dispatch, RunAttribute, WorkflowRun
from django_durable.payloads import payload
from django_durable.store import clock, database, dispatch, gates, history, status_cache, taken


class Following(NamedTuple):
    """A run on its way to the tables, after ``ended``. ``delay``: from now until it begins."""

    chain_id: UUID
    ended: UUID
    run_id: UUID
    started: events.RunStarted
    fingerprint: str
    delay: timedelta = timedelta(0)
    copies: int = 0  # events of ``ended`` that its history begins with, its start among them
    reset: events.RunReset | None = None  # what follows these


def before(follow: Sequence[Following]) -> dict[UUID, WorkflowRun]:
    """The runs that end, as they are before their end is written."""
    return WorkflowRun.objects.using(database.alias()).in_bulk([one.ended for one in follow]) if follow else {}


def insert(follow: Sequence[Following], ended: dict[UUID, WorkflowRun]) -> None:
    """Write the next runs, after the ends of those before them; this transaction has their dispatch rows."""
    if not follow:
        return
    using, now = database.alias(), clock.read()
    WorkflowRun.objects.using(using).bulk_create([_next(one, ended[one.ended], now) for one in follow])
    _begin(follow, now)
    _carry_attributes({one.ended: one.run_id for one in follow})
    status_cache.changed([one.run_id for one in follow])
    _dispatch([_place(one, ended[one.ended], now) for one in follow])


def reopen(one: Following, ended: WorkflowRun) -> bool:
    """Write a run that goes on with a chain which has ended, in the caller's transaction.

    False: its workflow id, its subject, its singleton key, or the chain, belongs to an open run.
    """
    now = clock.read()
    ended = _with_new_deadline(ended, now)
    if one.started.one_per_subject:
        ended.open_subject = subject_of(ended).key
    if one.started.singleton_key is not None:
        ended.open_singleton = key_of(ended.name, one.started.singleton_key)
    free = taken.apart_from_taken([_next(one, ended, now)])
    WorkflowRun.objects.using(database.alias()).bulk_create(free, ignore_conflicts=True)
    if not WorkflowRun.objects.using(database.alias()).filter(pk=one.run_id).exists():
        return False
    _begin([one], now)
    _carry_attributes({one.ended: one.run_id})
    status_cache.changed([one.run_id])
    place = _place(one, ended, now)
    definition = key_of(ended.name, ended.version)
    chain = Dispatch(
        queue=ended.queue,
        priority=ended.priority,
        partition_key=ended.partition_key,
        definition=definition,
        **place._asdict(),
    )
    dispatch.rows().bulk_create([chain], ignore_conflicts=True)
    if not dispatch.rows().filter(pk=one.chain_id, run_id=one.run_id).exists():
        return False
    gates.put_up([one.chain_id])
    return True


def subject_of(run: WorkflowRun) -> Subject:
    """The row that a run is about; only for a run that has one."""
    return Subject(type=run.subject_type or "", id=run.subject_id or "")


def _with_new_deadline(ended: WorkflowRun, now: datetime) -> WorkflowRun:
    """What the whole chain had for its time, it has once more from now on, if that is over."""
    deadline = ended.execution_deadline
    if deadline is not None and deadline <= now:
        chain = WorkflowRun.objects.using(database.alias()).filter(chain_id=ended.chain_id)
        began = chain.order_by("created_at").values_list("created_at", flat=True)[0]
        ended.execution_deadline = now + (deadline - began)
    return ended


def _begin(follow: Sequence[Following], now: datetime) -> None:
    """The first events: the start, or what is copied, and that it was."""
    new = [one for one in follow if not one.copies]
    history.append([history.Row.of(one.run_id, 1, now + one.delay, one.started) for one in new])
    for one in follow:
        if one.copies:
            history.copy(one.ended, one.run_id, one.copies)
            assert one.reset is not None
            history.append(history.after_last([(one.run_id, one.reset)]))


def _next(one: Following, ended: WorkflowRun, now: datetime) -> WorkflowRun:
    """A copy of the run before: whatever is not of that run alone belongs to the chain."""
    values = {field.attname: getattr(ended, field.attname) for field in WorkflowRun._meta.concrete_fields}
    values |= dict.fromkeys(("result", "failure", "blocked", "lingering", "progress", "started_at", "closed_at"))
    return WorkflowRun(
        **values
        | {
            "id": one.run_id,
            "open_workflow_id": ended.workflow_id,
            "fingerprint": one.fingerprint,
            "status": Status.RUNNING,
            "input": payload.dump(one.started.input),
            "attempt": one.started.attempt,
            "continued_from": one.ended,
            "created_at": now,
        }
    )


def _carry_attributes(successors: dict[UUID, UUID]) -> None:
    carried = list(RunAttribute.objects.using(database.alias()).filter(run_id__in=successors))
    for attribute in carried:
        attribute.run_id = successors[attribute.run_id]
    if carried:
        RunAttribute.objects.using(database.alias()).bulk_create(carried)


class _Place(NamedTuple):
    """What the dispatch row says of the next run."""

    chain_id: UUID
    run_id: UUID
    wakeup_at: datetime
    deadline: datetime | None
    hold: str | None


def _place(one: Following, ended: WorkflowRun, now: datetime) -> _Place:
    begins = now + one.delay
    limits = [ended.execution_deadline, begins + ended.run_timeout if ended.run_timeout is not None else None]
    deadline = min((limit for limit in limits if limit is not None), default=None)
    hold = dispatch.DELAYED if one.delay else None
    return _Place(one.chain_id, one.run_id, min(begins, deadline or begins), deadline, hold)


_RESET: dict[str, Any] = {
    "owner": None,
    "closing": False,
    "blocked_by": None,
    "recoveries": 0,
    "started_at": None,
}
_DISPATCH = f"""
UPDATE {Dispatch._meta.db_table} AS chain
SET run_id = place.run_id, wakeup_at = place.wakeup_at, deadline = place.deadline,
    hold = CASE WHEN chain.hold = '{dispatch.PAUSED}' THEN chain.hold ELSE place.hold END,
    owner = NULL, closing = false, blocked_by = NULL, recoveries = 0, started_at = NULL
FROM json_to_recordset(%s::json)
    AS place(chain_id uuid, run_id uuid, wakeup_at timestamptz, deadline timestamptz, hold text)
WHERE chain.chain_id = place.chain_id
"""


def _dispatch(places: Sequence[_Place]) -> None:
    if database.is_postgres():
        with database.cursor() as cursor:
            cursor.execute(_DISPATCH, [msgspec.json.encode([one._asdict() for one in places]).decode()])
        return
    for one in places:
        values = one._asdict()
        chain = dispatch.rows().filter(pk=values.pop("chain_id"))
        paused = When(hold=dispatch.PAUSED, then=F("hold"))  # the next run is paused as the one before was to be
        chain.update(**values | {"hold": Case(paused, default=Value(values["hold"]))}, **_RESET)
