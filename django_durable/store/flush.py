"""One group commit: the drains of many runs in one short transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
from django.db import DatabaseError, DataError

from django_durable.history import messages
from django_durable.history.failures import Failure
from django_durable.store import (
    attributes,
    children,
    database,
    debounces,
    dispatch,
    history,
    inbox,
    leases,
    outages,
    outcomes,
    runs,
    sends,
    starts,
    status_cache,
    tasks,
    updates,
)


class Verdict(Enum):
    """What became of one run's part of a flush."""

    WRITTEN = "written"
    BUSY = "busy"  # somebody holds its row: the same write is tried again later
    REDO = "redo"  # something reached the run first: read it again, apply that, then the same inputs
    GONE = "gone"  # not ours any more: drop it


class RunWrite(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one run wants written at once."""

    chain_id: UUID
    run_id: UUID
    epoch: int
    events: tuple[history.Row, ...] = ()
    consumed: tuple[int, ...] = ()
    spilled: tuple[tasks.NewTask, ...] = ()
    finished: tuple[tasks.Held, ...] = ()
    cancelled: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()
    replies: tuple[updates.Reply, ...] = ()
    lingering: tuple[str | None] | None = None  # what is to be noted, if that has changed
    ending: runs.Ending | None = None
    attributes: Mapping[str, Any] = {}  # that have changed; None: removed
    progress: str | None = None  # the latest, if there is a new one
    reopens: bool = False  # it had asked senders to step back, and goes on after all
    children: tuple[starts.NewRun, ...] = ()
    sends: tuple[sends.Send, ...] = ()
    begins: bool = False  # after its delay: messages may wake it from now on
    acquits: bool = False  # it has come on without an event, so it is not what its earlier workers died of

    @property
    def locks_end(self) -> bool:
        return self.ending is not None or bool(self.settled)

    @property
    def goes_on(self) -> bool:
        """Whether another run follows, so that senders need not be kept out."""
        return self.ending is not None and self.ending.follows is not None and not self.settled

    @property
    def is_bound(self) -> bool:
        """Whether the primary key of its events proves that the run is still ours."""
        return bool(self.events)


@dataclass(slots=True, kw_only=True)
class Result:
    """What a flush did: a verdict per chain, and what was in the way of those to be done again."""

    verdicts: dict[UUID, Verdict]
    time: datetime | None = None
    transaction: str = ""
    succeeded: dict[tuple[UUID, str], outcomes.Outcome] = field(default_factory=dict)
    lost: set[tasks.Held] = field(default_factory=set)
    told: set[UUID] = field(default_factory=set)  # chains that have got messages
    asked_to_end: set[UUID] = field(default_factory=set)  # some of those
    started: set[str] = field(default_factory=set)  # queues of new children
    spilled: set[str] = field(default_factory=set)  # queues of new tasks that wait for a worker


def flush(worker: int, writes: Sequence[RunWrite], *, cautious: bool = False, note: Result | None = None) -> Result:
    """Write ``writes`` in one transaction under the worker's fence.

    Raises ``IntegrityError`` or a lock conflict for the batch as a whole; then the caller tries once more with
    ``cautious=True``, which looks at every run's row first and sets aside those that are busy or gone.
    ``note`` learns the transaction's id as soon as it is known, for when the reply to COMMIT is lost.
    """
    result = note or Result(verdicts={})
    result.verdicts = {write.chain_id: Verdict.WRITTEN for write in writes}
    with leases.fenced(worker) as fence:
        result.time, result.transaction = fence.time, fence.transaction
        going = _still_ours(worker, writes, result, everyone=cautious)
        going = _lock_ends(worker, going, result)
        going = _check_settled(going, result)
        going = _check_finished(going, result)
        going = _check_parents(going, result)
        going, deliveries = _check_sends(going, result)
        _write(worker, going, deliveries, result)
    return result


def _still_ours(worker: int, writes: Sequence[RunWrite], result: Result, *, everyone: bool) -> list[RunWrite]:
    """Writes without an event have no primary key to prove ownership: look at the row."""
    unproven = {write.chain_id for write in writes if everyone or not write.is_bound}
    if not unproven:
        return list(writes)
    had = dispatch.shared(unproven)
    there = dispatch.existing(unproven - had.keys()) if len(had) < len(unproven) else set()
    for write in writes:
        if write.chain_id not in unproven:
            continue
        if write.chain_id in had:
            if had[write.chain_id] != (worker, write.epoch):
                result.verdicts[write.chain_id] = Verdict.GONE
        else:
            result.verdicts[write.chain_id] = Verdict.BUSY if write.chain_id in there else Verdict.GONE
    return _written(writes, result)


def _lock_ends(worker: int, writes: list[RunWrite], result: Result) -> list[RunWrite]:
    """An end is provisional: locked against senders, it must find nothing that it has not applied."""
    wanted = {write.chain_id for write in writes if write.locks_end}
    if not wanted:
        return writes
    open_ = {write.chain_id for write in writes if write.goes_on}
    had = dispatch.locked_for_end(wanted - open_)
    if open_:
        had |= dispatch.locked_for_end(open_, against_senders=False)
    there = dispatch.existing(wanted - had.keys()) if len(had) < len(wanted) else set()
    ending = [write.chain_id for write in writes if write.ending and write.ending.follows is None]
    waiting = inbox.read([chain for chain in ending if chain in had])
    for write in writes:
        if write.chain_id not in wanted:
            continue
        if write.chain_id not in had:
            result.verdicts[write.chain_id] = Verdict.BUSY if write.chain_id in there else Verdict.GONE
        elif had[write.chain_id][1:] != (worker, write.epoch):
            result.verdicts[write.chain_id] = Verdict.GONE
        elif {message.id for message in waiting.get(write.chain_id, ())} - set(write.consumed):
            result.verdicts[write.chain_id] = Verdict.REDO
    return _written(writes, result)


def _check_settled(writes: list[RunWrite], result: Result) -> list[RunWrite]:
    """An atomic activity that has succeeded meanwhile makes its run start over with that success.

    Tasks that go with this write may be in the hands of somebody who completes them by their token in a transaction
    of his own, which is not waited for.
    """
    keys = {(write.chain_id, key) for write in writes for key in write.settled}
    given_up = keys | {(write.chain_id, key) for write in writes for key in (*write.cancelled, *write.stops)}
    if given_up:
        for chain, _ in tasks.locked_for_settling(given_up):
            result.verdicts[chain] = Verdict.BUSY
    for chain in tasks.busy([write.chain_id for write in writes if write.goes_on]):
        result.verdicts[chain] = Verdict.BUSY
    if not keys:
        return _written(writes, result)
    result.succeeded = {place: outcome for place, outcome in outcomes.read(keys).items() if outcome.result is not None}
    for chain, _ in result.succeeded:
        result.verdicts[chain] = Verdict.REDO
    return _written(writes, result)


def _check_finished(writes: list[RunWrite], result: Result) -> list[RunWrite]:
    """A task that another worker has taken over makes its run start over without that result."""
    held = [task for write in writes for task in write.finished]
    if not held:
        return writes
    missing = set(held) - tasks.locked(held)
    busy = tasks.ours(missing) if missing else set()
    result.lost = missing - busy
    for task in busy:
        result.verdicts[task.chain_id] = Verdict.BUSY
    for task in result.lost:
        result.verdicts[task.chain_id] = Verdict.REDO
    return _written(writes, result)


def _check_parents(writes: list[RunWrite], result: Result) -> list[RunWrite]:
    """A reply waits for a parent that is ending itself."""
    replies = {write.chain_id: reply for write in writes if write.ending and (reply := write.ending.reply)}
    ending = children.busy([reply.parent for reply in replies.values()])
    for chain, reply in replies.items():
        if reply.parent.chain_id in ending:
            result.verdicts[chain] = Verdict.BUSY
    return _written(writes, result)


def _check_sends(writes: list[RunWrite], result: Result) -> tuple[list[RunWrite], list[sends.Delivery]]:
    """Messages to other workflows wait for those that are ending."""
    wanted = [(write.chain_id, send) for write in writes for send in write.sends]
    if not wanted:
        return writes, []
    new = {child.run_id for write in writes for child in write.children}
    ending = {write.chain_id for write in writes if write.ending and write.ending.follows is None}
    deliveries, busy = sends.plan(wanted, new=new, ending=ending)
    for chain in busy:
        result.verdicts[chain] = Verdict.BUSY
    return _written(writes, result), [one for one in deliveries if one.sender not in busy]


def _start_children(writes: list[RunWrite], result: Result) -> None:
    """Insert children in one statement. Their ids are fresh; if one is taken all the same, its parent is told."""
    new = {child.run_id: (write, child) for write in writes for child in write.children}
    if not new:
        return
    inserted = set(starts.insert_many([child for _, child in new.values()]))
    result.started |= {child.queue for _, child in new.values()}
    failure = Failure(type="WorkflowAlreadyStarted", message="The workflow id of the child is taken.")
    refused = [
        (write.chain_id, messages.ChildStart(key=child.parent_key or "", failure=failure))
        for run_id, (write, child) in new.items()
        if run_id not in inserted
    ]
    inbox.insert(refused)
    result.told |= {chain for chain, _ in refused}


def _write(worker: int, writes: list[RunWrite], deliveries: list[sends.Delivery], result: Result) -> None:
    history.append([row for write in writes for row in write.events])
    inbox.consume([key for write in writes for key in write.consumed])
    outcomes.settle([(write.chain_id, key) for write in writes for key in write.settled])
    tasks.finish([task for write in writes for task in write.finished])
    for write in writes:
        if write.cancelled:
            tasks.cancel(write.chain_id, write.cancelled)
        if write.stops:
            stopped = tasks.ask_to_stop(write.chain_id, write.stops)
            inbox.insert([(write.chain_id, messages.stopped(key)) for key in stopped])
            result.told |= {write.chain_id} if stopped else set()
    spilled = [task for write in writes for task in write.spilled if not write.ending]
    tasks.insert(spilled)
    result.spilled |= {task.queue for task in spilled if not (task.worker or task.external or task.delay)}
    updates.answer([reply for write in writes for reply in write.replies])
    runs.note_lingering([(write.run_id, *write.lingering) for write in writes if write.lingering and not write.ending])
    _start_children(writes, result)
    result.told |= sends.write(deliveries)
    result.asked_to_end |= sends.asked_to_end(deliveries)
    attributes.write([(write.run_id, write.attributes) for write in writes if write.attributes])
    status_cache.changed([write.run_id for write in writes if write.attributes])
    runs.note_progress([(write.run_id, write.progress) for write in writes if write.progress is not None])
    result.told |= runs.close([write.ending for write in writes if write.ending])
    reopened = [write for write in writes if write.reopens and not write.ending]
    if reopened:
        dispatch.set_closing([write.chain_id for write in reopened], worker, closing=False)
    dispatch.begin(worker, [write.chain_id for write in writes if write.begins and not write.ending])
    debounces.leave([write.run_id for write in writes if write.begins])
    dispatch.acquit(worker, [write.chain_id for write in writes if write.acquits and not write.ending])


def _written(writes: Sequence[RunWrite], result: Result) -> list[RunWrite]:
    return [write for write in writes if result.verdicts[write.chain_id] is Verdict.WRITTEN]


def was_committed(transaction: str, writes: Sequence[RunWrite]) -> bool:
    """Whether a transaction whose COMMIT got no reply has been committed; waits while it may still be under way.

    Raises a database error while the database does not answer.
    """
    if transaction and database.is_postgres():
        status = _status_of(transaction)
        if status == "in progress":
            raise StillInProgress
        if status == "aborted":
            return False
    try:
        with database.limiting():
            return _stands(writes)
    except DatabaseError as error:
        if outages.is_conflict(error):
            raise StillInProgress from error
        raise


def _stands(writes: Sequence[RunWrite]) -> bool:
    """Whether what was to be written is there: one row tells of all, because they were written at once.

    The transaction's own status is no proof of that: a server that crashed before the transaction reached its disk
    gives the same id again. Writes without a row of their own may be written again: what they take away is gone then.
    """
    for write in writes:
        if write.events:
            return history.holds(write.events[-1])
    spilled = {(write.chain_id, task.key) for write in writes for task in write.spilled}
    return bool(spilled) and bool(tasks.existing(spilled, settled=True) or inbox.answered(spilled))


def is_in_progress(transaction: str) -> bool:
    """Whether the server is still committing or rolling back this transaction.

    Never a test's: that is in progress for as long as anybody could ask.
    """
    if database.in_tests_transaction():
        return False
    return bool(transaction) and database.is_postgres() and _status_of(transaction) == "in progress"


def _status_of(transaction: str) -> str | None:
    with database.cursor() as cursor:
        try:
            cursor.execute("SELECT pg_xact_status(%s::xid8)", [transaction])
        except DataError:  # still to be given: this server took over from one whose commit it never heard of
            return None
        row = cursor.fetchone()
    return row[0] if row else None


class StillInProgress(Exception):
    """The server is still committing or rolling back the transaction."""
