"""Runs: their start, their one way to end, and what is asked about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db.models import OuterRef, Q, Subquery

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
from django_durable.store import (
    children,
    clock,
    database,
    dispatch,
    following,
    gates,
    history,
    inbox,
    locks,
    status_cache,
    tasks,
    updates,
)

_TABLE = WorkflowRun._meta.db_table


class Ending(NamedTuple):
    """How a run ends: its status, and what is kept of its result or failure. ``follows``: the chain goes on.

    ``unseen``: keys of atomic activities whose outcome, if there is one, its code has not seen: should the run go on
    after all, that is their outcome still. None: nobody knows which they are. ``inherited``: keys of activities of the
    run that it was reset from, whose outcome it has seen.
    """

    chain_id: UUID
    run_id: UUID
    status: Status
    result: str | None = None
    failure: str | None = None
    follows: following.Following | None = None
    parent: children.Parent | None = None
    keeps: tuple[str, ...] = ()  # keys of activities and callbacks that go on in the run that follows
    unseen: tuple[str, ...] | None = ()
    inherited: tuple[str, ...] = ()

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
    stay, and what belongs to the run alone goes. Outcomes that the run has not seen stay with its history. Parents are
    told; returns their chains. The caller has seen that none of them is busy.
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
    status_cache.changed([ending.run_id for ending in endings])
    for ending in endings:
        if ending.follows is not None and ending.keeps:
            tasks.give_to(ending.chain_id, ending.keeps, ending.follows.run_id)
    return told


_CLOSE = f"""
WITH ended AS MATERIALIZED (
    SELECT *, {{now}} AS now FROM json_to_recordset(%s::json)
    AS row(chain_id uuid, run_id uuid, status text, result text, failure text, is_last boolean, made text) LIMIT %s),
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
    DELETE FROM {ActivityOutcome._meta.db_table} AS o USING ended
    WHERE o.chain_id = ended.chain_id AND (starts_with(o.key, ended.made) OR o.key = ANY (%s::text[]))
    AND o.key <> ALL (%s::text[])),
updates AS (
    UPDATE {Update._meta.db_table} AS u
    SET expires_at = CASE WHEN ended.is_last THEN now + %s END, closed_at = COALESCE(u.closed_at, now),
        failure = CASE u.state WHEN '{State.ACCEPTED}' THEN ended.failure ELSE u.failure END,
        state = CASE u.state WHEN '{State.SENT}' THEN '{State.MISSED}' WHEN '{State.ACCEPTED}' THEN '{State.FAILED}'
            ELSE u.state END
    FROM ended WHERE u.chain_id = ended.chain_id AND (ended.is_last OR u.state = '{State.ACCEPTED}'))
UPDATE {_TABLE} AS run
SET status = ended.status, open_workflow_id = NULL, open_subject = NULL, open_singleton = NULL, result = ended.result,
    failure = ended.failure, blocked = NULL,
    started_at = begun.started_at, closed_at = now
FROM ended LEFT JOIN begun ON begun.chain_id = ended.chain_id
WHERE run.id = ended.run_id
"""


def _close_at_once(endings: Sequence[Ending]) -> None:
    now, params = clock.sql()
    records = msgspec.json.encode([_record(ending) for ending in endings]).decode()
    with database.cursor() as cursor:
        keep: Any = updates.KEEP  # an interval is what the driver makes of it
        # The limit tells the planner how few rows these are: it would guess a hundred, and read small tables whole.
        kept = [key for ending in endings for key in ending.keeps]
        unseen = [key for ending in endings for key in ending.unseen or ()]
        inherited = [key for ending in endings for key in ending.inherited]
        cursor.execute(_CLOSE.format(now=now), [*params, records, len(endings), kept, inherited, unseen, keep])


def _record(ending: Ending) -> dict[str, Any]:
    return {
        "chain_id": ending.chain_id,
        "run_id": ending.run_id,
        "status": ending.status,
        "result": ending.result,
        "failure": ending.failure,
        "is_last": ending.follows is None,
        "made": _made_by(ending),
    }


def _made_by(ending: Ending) -> str | None:
    """How the keys begin that the run has made. None: what becomes of these is not known."""
    return None if ending.unseen is None else f"{ending.run_id.hex}-"


def _close_each(endings: Sequence[Ending]) -> None:
    started = Dispatch.objects.filter(pk=OuterRef("chain_id")).values("started_at")
    for ending in endings:
        rows().filter(pk=ending.run_id).update(
            status=ending.status,
            open_workflow_id=None,
            open_subject=None,
            open_singleton=None,
            result=ending.result,
            failure=ending.failure,
            blocked=None,
            started_at=Subquery(started),
            closed_at=clock.now(),
        )
    chains = [ending.chain_id for ending in endings]
    last = [ending.chain_id for ending in endings if ending.follows is None]
    kept = [key for ending in endings for key in ending.keeps]
    inbox.empty(last)
    tasks.delete_all(chains, apart_from=kept)
    database.delete(Dispatch, last)
    gates.take_down(last)
    for ending in endings:
        _forget_outcomes(ending)
        _close_updates(ending)


def _forget_outcomes(ending: Ending) -> None:
    made = _made_by(ending)
    if made is not None:
        there = ActivityOutcome.objects.using(database.alias()).filter(chain_id=ending.chain_id)
        seen = there.filter(Q(key__startswith=made) | Q(key__in=ending.inherited))
        locks.exactly(seen.exclude(key__in=ending.unseen or ()))._raw_delete(database.alias())


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
    close([Ending(chain_id, run_id, Status.TERMINATED, failure=failure, parent=parent, unseen=None)])
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


class ChainState(NamedTuple):
    """How the latest run of a chain is: while that is open, so is the chain. ``result`` is there if it completed."""

    status: Status
    name: str
    version: str
    result: str | None


def chain_state(run_id: UUID) -> ChainState | None:
    """How the chain of that run is. One small statement: whoever waits for a result asks for it again and again."""
    found = database.select(
        f"SELECT status, name, version, result FROM {_TABLE} "
        f"WHERE chain_id = (SELECT chain_id FROM {_TABLE} WHERE id = %s) ORDER BY created_at DESC, id DESC LIMIT 1",
        [database.key_of(run_id)],
    )
    return ChainState(Status(found[0][0]), *found[0][1:]) if found else None


def is_pending(run_id: UUID) -> bool:
    """Whether the chain of that run is open and no worker has begun its latest run."""
    return rows().pending().filter(chain_id=Subquery(_chain_of(run_id))).exists()


def hold(run_id: UUID) -> bool:
    """Keep a run from being pruned until this transaction ends. False: it is gone."""
    return bool(locks.key_share(rows().filter(pk=run_id).values_list("pk")))


def exists(chain_id: UUID) -> bool:
    """Whether there ever was a chain of that id."""
    return rows().filter(chain_id=chain_id).exists()


def has_begun_anew(chain_id: UUID, run_id: UUID) -> bool:
    """Whether that run of the chain has continued as new or is tried again from its start: not one that was reset."""
    followers = rows().filter(chain_id=chain_id, continued_from=run_id)
    own = rows().filter(pk=run_id).values_list("status", "attempt").first()
    if own is None:
        return False
    status, attempt = own
    return status == Status.CONTINUED_AS_NEW or followers.filter(attempt__gt=attempt).exists()


def open_run(workflow_id: str) -> UUID | None:
    """The open run of a workflow id."""
    return rows().filter(open_workflow_id=workflow_id).values_list("pk", flat=True).first()


def open_about(subject: Subject) -> WorkflowRun | None:
    """The open run that keeps others of its kind away from a subject."""
    return rows().filter(open_subject=subject.key).first()


def open_singleton(key: str) -> tuple[str, UUID] | None:
    """Workflow id and run id of the open run that keeps others of its workflow and key away."""
    return rows().filter(open_singleton=key).values_list("workflow_id", "pk").first()


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
    status_cache.changed([run_id])
    return kept


def block_all(run_ids: Sequence[UUID], block: blocking.Block) -> None:
    """Note why these runs, which were not blocked before, are."""
    kept = msgspec.structs.replace(block, since=clock.read().isoformat())
    open_ = rows().filter(pk__in=run_ids, open_workflow_id__isnull=False, status__in=sorted(before(Status.BLOCKED)))
    open_.update(status=Status.BLOCKED, blocked=blocking.encode(kept))
    status_cache.changed(run_ids)


def note_lingering(notes: Sequence[tuple[UUID, str | None]]) -> None:
    """Note what open runs still have to do with messages."""
    for run_id, lingering in notes:
        rows().filter(pk=run_id).update(lingering=lingering)


_PROGRESS = f"""
UPDATE {_TABLE} AS run SET progress = note.progress
FROM json_to_recordset(%s::json) AS note(run_id uuid, progress text) WHERE run.id = note.run_id
"""


def note_progress(notes: Sequence[tuple[UUID, str]]) -> None:
    """Note what runs say they are doing."""
    status_cache.changed([run_id for run_id, _ in notes])
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
    status_cache.changed([run_id])


def set_paused(run_id: UUID) -> None:
    """Note that a run rests."""
    _open(run_id, Status.PAUSED).update(status=Status.PAUSED)
    status_cache.changed([run_id])


def _open(run_id: UUID, new: Status) -> RunQuerySet:
    """The run, if it is open and may become ``new``."""
    return rows().filter(pk=run_id, open_workflow_id__isnull=False, status__in=sorted(before(new)))
