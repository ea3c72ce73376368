"""Runs: their start, their one way to end, and what is asked about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db.models import OuterRef, Subquery

from django_durable.definitions.subject import Subject
from django_durable.history import blocking, events
from django_durable.history.replies import State
from django_durable.history.status import CLOSED, Status, before
from django_durable.models import (
    ActivityOutcome,
    ActivityTask,
    Dispatch,
    InboxMessage,
    Update,
    WorkflowRun,
)
from django_durable.querysets import RunQuerySet
from django_durable.store import children, clock, database, dispatch, following, history, updates


class Ending(NamedTuple):
    """How a run ends: its status, and what is kept of its result or failure. ``follows``: the chain goes on."""

    chain_id: UUID
    run_id: UUID
    status: Status
    result: str | None = None
    failure: str | None = None
    follows: following.Following | None = None
    parent: children.Parent | None = None
    keeps: tuple[str, ...] = ()  # keys of activities that go on in the run that follows

    @property
    def reply(self) -> children.Reply | None:
        """What the end of the chain tells its parent, if there is one."""
        if self.parent is None or self.follows is not None:
            return None
        return children.Reply(self.parent, self.status, self.result, self.failure)


class Place(NamedTuple):
    """A run and its chain."""

    chain_id: UUID
    run_id: UUID


def rows() -> RunQuerySet:
    return WorkflowRun.objects.using(database.alias())


def close(endings: Sequence[Ending]) -> set[UUID]:
    """End runs whose dispatch rows this transaction has locked for their end, and whose last event it writes.

    Everything that belongs to an open chain goes with its dispatch row, unless another run follows; then the messages
    stay, and what belongs to the run alone goes. Parents are told; returns their chains. The caller has seen that none
    of them is busy.
    """
    if not endings:
        return set()
    told = children.reply([reply for ending in endings if (reply := ending.reply) is not None])
    follow = [ending.follows for ending in endings if ending.follows is not None]
    ended = following.before(follow)
    if database.is_postgres():
        _close_at_once(endings)
    else:
        _close_each(endings)
    following.insert(follow, ended)
    return told


_CLOSE = f"""
WITH ended AS MATERIALIZED (
    SELECT *, {{now}} AS now FROM json_to_recordset(%s::json)
    AS row(chain_id uuid, run_id uuid, status text, result text, failure text, is_last boolean) LIMIT %s),
begun AS MATERIALIZED (
    SELECT chain_id, started_at FROM {Dispatch._meta.db_table} WHERE chain_id IN (SELECT chain_id FROM ended)),
dispatched AS (
    DELETE FROM {Dispatch._meta.db_table} WHERE chain_id IN (SELECT chain_id FROM ended WHERE is_last)),
messages AS (
    DELETE FROM {InboxMessage._meta.db_table} WHERE chain_id IN (SELECT chain_id FROM ended WHERE is_last)),
tasks AS (
    DELETE FROM {ActivityTask._meta.db_table}
    WHERE chain_id IN (SELECT chain_id FROM ended) AND key <> ALL (%s::text[])),
outcomes AS (
    DELETE FROM {ActivityOutcome._meta.db_table}
    WHERE chain_id IN (SELECT chain_id FROM ended) AND key <> ALL (%s::text[])),
updates AS (
    UPDATE {Update._meta.db_table} AS u
    SET expires_at = CASE WHEN ended.is_last THEN now + %s END, closed_at = COALESCE(u.closed_at, now),
        failure = CASE u.state WHEN '{State.ACCEPTED}' THEN ended.failure ELSE u.failure END,
        state = CASE u.state WHEN '{State.SENT}' THEN '{State.MISSED}' WHEN '{State.ACCEPTED}' THEN '{State.FAILED}'
            ELSE u.state END
    FROM ended WHERE u.chain_id = ended.chain_id AND (ended.is_last OR u.state = '{State.ACCEPTED}'))
UPDATE {WorkflowRun._meta.db_table} AS run
SET status = ended.status, open_workflow_id = NULL, open_subject = NULL, result = ended.result,
    failure = ended.failure, blocked = NULL,
    started_at = begun.started_at, closed_at = now
FROM ended LEFT JOIN begun ON begun.chain_id = ended.chain_id
WHERE run.id = ended.run_id
"""


def _close_at_once(endings: Sequence[Ending]) -> None:
    now, params = clock.sql()
    records = msgspec.json.encode(
        [
            ending._asdict() | {"follows": None, "keeps": (), "parent": None, "is_last": ending.follows is None}
            for ending in endings
        ]
    ).decode()
    with database.cursor() as cursor:
        keep: Any = updates.KEEP  # an interval is what the driver makes of it
        # The limit tells the planner how few rows these are: it would guess a hundred, and read small tables whole.
        kept = [key for ending in endings for key in ending.keeps]
        cursor.execute(_CLOSE.format(now=now), [*params, records, len(endings), kept, kept, keep])


def _close_each(endings: Sequence[Ending]) -> None:
    started = Dispatch.objects.filter(pk=OuterRef("chain_id")).values("started_at")
    for ending in endings:
        rows().filter(pk=ending.run_id).update(
            status=ending.status,
            open_workflow_id=None,
            open_subject=None,
            result=ending.result,
            failure=ending.failure,
            blocked=None,
            started_at=Subquery(started),
            closed_at=clock.now(),
        )
    using = database.alias()
    chains = [ending.chain_id for ending in endings]
    last = [ending.chain_id for ending in endings if ending.follows is None]
    kept = [key for ending in endings for key in ending.keeps]
    InboxMessage.objects.using(using).filter(chain_id__in=last)._raw_delete(using)
    for table in (ActivityTask, ActivityOutcome):
        table.objects.using(using).filter(chain_id__in=chains).exclude(key__in=kept)._raw_delete(using)
    dispatch.rows().filter(pk__in=last)._raw_delete(using)
    for ending in endings:
        _close_updates(ending)


def _close_updates(ending: Ending) -> None:
    """Updates of the run that have no reply get theirs now; at the chain's end all of its updates do."""
    there = Update.objects.using(database.alias()).filter(chain_id=ending.chain_id)
    now = clock.now()
    there.filter(state=State.ACCEPTED).update(state=State.FAILED, failure=ending.failure, closed_at=now)
    if ending.follows is None:
        there.filter(state=State.SENT).update(state=State.MISSED, closed_at=now)
        there.update(expires_at=clock.plus(now, updates.KEEP))


def terminate(chain_id: UUID, event: events.RunTerminated, failure: str) -> UUID | None:
    """End a run under its owner's feet, in the caller's transaction; its id, or None: not had. None of its code runs.

    The owner learns of it when the dense primary key refuses its next event. Raises ``IntegrityError`` if the owner
    was quicker: the caller tries again in a new savepoint.
    """
    locked = dispatch.locked_for_end([chain_id])
    if chain_id not in locked:
        return None
    run_id, _, _ = locked[chain_id]
    parent = children.parent_of(rows().only("parent_chain_id", "parent_key").get(pk=run_id))
    if parent is not None and children.busy([parent]):
        return None
    history.append(history.after_last([(run_id, event)]))
    close([Ending(chain_id, run_id, Status.TERMINATED, failure=failure, parent=parent)])
    return run_id


def latest(workflow_id: str) -> WorkflowRun | None:
    """The latest run of a workflow id."""
    return rows().for_workflow(workflow_id).first()


def open_chain(workflow_id: str, *, run_id: UUID | None = None) -> UUID | None:
    """The chain of the open run of a workflow id; None if there is none, or it is not the chain of ``run_id``."""
    found = open_place(workflow_id, run_id=run_id)
    return found.chain_id if found else None


def open_place(workflow_id: str, *, run_id: UUID | None = None) -> Place | None:
    """The open run of a workflow id; None if there is none, or it is not of the chain of ``run_id``."""
    found = rows().filter(open_workflow_id=workflow_id)
    if run_id is not None:
        found = found.filter(chain_id=Subquery(_chain_of(run_id)))
    return _place(found)


def latest_place(workflow_id: str, *, run_id: UUID | None = None) -> Place | None:
    """The latest run of a workflow id, or ``run_id``, open or closed."""
    return _place(rows().filter(pk=run_id) if run_id is not None else rows().for_workflow(workflow_id))


def _place(found: RunQuerySet) -> Place | None:
    row = found.values_list("chain_id", "pk").first()
    return Place(*row) if row else None


def _chain_of(run_id: UUID) -> RunQuerySet:
    """The chain of that run, for a subquery. Cut to one row: Django 6.1 insists on that, though the key is primary."""
    return rows().filter(pk=run_id).values("chain_id")[:1]  # type: ignore[return-value]


def latest_of_chain(run_id: UUID) -> WorkflowRun | None:
    """The latest run of the chain that ``run_id`` belongs to."""
    return rows().filter(chain_id=Subquery(_chain_of(run_id))).order_by("-created_at", "-id").first()


def chain_status(run_id: UUID) -> Status | None:
    """The status of that run: while it is open, so is the chain."""
    latest = rows().filter(chain_id=Subquery(_chain_of(run_id))).order_by("-created_at", "-id")
    status = latest.values_list("status", flat=True).first()
    return Status(status) if status else None


def exists(chain_id: UUID) -> bool:
    """Whether there ever was a chain of that id."""
    return rows().filter(chain_id=chain_id).exists()


def open_run(workflow_id: str) -> UUID | None:
    """The open run of a workflow id."""
    return rows().filter(open_workflow_id=workflow_id).values_list("pk", flat=True).first()


def open_about(subject: Subject) -> WorkflowRun | None:
    """The open run that keeps others of its kind away from a subject."""
    return rows().filter(open_subject=subject.key).first()


def latest_closed_status(workflow_id: str, *, apart_from: UUID) -> Status | None:
    """How the last run of this workflow id ended."""
    ended = rows().for_workflow(workflow_id).exclude(pk=apart_from).filter(status__in=sorted(CLOSED))
    status = ended.values_list("status", flat=True).first()
    return Status(status) if status else None


def set_blocked(run_id: UUID, block: blocking.Block) -> blocking.Block:
    """Note why a run is parked; returns the note as it is kept, which counts repetitions."""
    before = blocking.decode(rows().filter(pk=run_id).values_list("blocked", flat=True).first())
    since = before.since if before else clock.read().isoformat()
    kept = msgspec.structs.replace(block, since=since, times=before.times + 1 if before else 1)
    _open(run_id, Status.BLOCKED).update(status=Status.BLOCKED, blocked=blocking.encode(kept))
    return kept


def block_all(run_ids: Sequence[UUID], block: blocking.Block) -> None:
    """Note why these runs, which were not blocked before, are."""
    kept = msgspec.structs.replace(block, since=clock.read().isoformat())
    open_ = rows().filter(pk__in=run_ids, open_workflow_id__isnull=False, status__in=sorted(before(Status.BLOCKED)))
    open_.update(status=Status.BLOCKED, blocked=blocking.encode(kept))


def note_lingering(notes: Sequence[tuple[UUID, str | None]]) -> None:
    """Note what open runs still have to do with messages."""
    for run_id, lingering in notes:
        rows().filter(pk=run_id).update(lingering=lingering)


_PROGRESS = f"""
UPDATE {WorkflowRun._meta.db_table} AS run SET progress = note.progress
FROM json_to_recordset(%s::json) AS note(run_id uuid, progress text) WHERE run.id = note.run_id
"""


def note_progress(notes: Sequence[tuple[UUID, str]]) -> None:
    """Note what runs say they are doing."""
    if notes and database.is_postgres():
        records = [{"run_id": run_id, "progress": progress} for run_id, progress in notes]
        with database.cursor() as cursor:
            cursor.execute(_PROGRESS, [msgspec.json.encode(records).decode()])
        return
    for run_id, progress in notes:
        rows().filter(pk=run_id).update(progress=progress)


def names(run_ids: Sequence[UUID]) -> list[tuple[UUID, str, str]]:
    """Run id, workflow id and name of these runs."""
    return list(rows().filter(pk__in=run_ids).values_list("pk", "workflow_id", "name"))


def set_going(run_id: UUID) -> None:
    """Note that a run that was held goes on."""
    _open(run_id, Status.RUNNING).update(status=Status.RUNNING, blocked=None)


def set_paused(run_id: UUID) -> None:
    """Note that a run rests."""
    _open(run_id, Status.PAUSED).update(status=Status.PAUSED)


def _open(run_id: UUID, new: Status) -> RunQuerySet:
    """The run, if it is open and may become ``new``."""
    return rows().filter(pk=run_id, open_workflow_id__isnull=False, status__in=sorted(before(new)))
