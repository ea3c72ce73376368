"""The verbs for many runs at once: in batches, each committed on its own, whatever becomes of the runs meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from uuid import UUID

from django.db.models import QuerySet

from django_durable.client import ending, messaging, pausing, resetting, surroundings
from django_durable.definitions.signal import SignalMessage
from django_durable.exceptions import DurableError
from django_durable.history import messages
from django_durable.models import WorkflowRun
from django_durable.store import database, inbox, outages, runs

BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResult:
    """What a verb has done to the runs of a queryset: to how many, and how many it left as they were."""

    done: int = 0
    skipped: int = 0

    def __add__(self, other: BulkResult) -> BulkResult:
        return BulkResult(done=self.done + other.done, skipped=self.skipped + other.skipped)


class Run(NamedTuple):
    run_id: UUID
    chain_id: UUID
    workflow_id: str


Runs = QuerySet[WorkflowRun]


def signal_workflows(queryset: Runs, message: SignalMessage) -> BulkResult:
    """Send a signal to each run of the queryset that is open. Those that have ended are skipped."""
    surroundings.check("signal_workflows()")
    return _send(queryset, messages.Signal(name=message.name, payload=message.payload))


def cancel_workflows(queryset: Runs, reason: str = "") -> BulkResult:
    """Ask each run of the queryset that is open to end. Those that have ended are skipped."""
    surroundings.check("cancel_workflows()")
    return _send(queryset, messages.Cancel(reason=reason), apart=partial(_cancel_unbegun, reason))


def terminate_workflows(queryset: Runs, reason: str = "") -> BulkResult:
    """End each run of the queryset that is open, at once. Those that have ended, or are busy for long, are skipped."""
    surroundings.check("terminate_workflows()")
    return _one_by_one(queryset, lambda run: ending.terminate_workflow(run.workflow_id, reason, run_id=run.run_id))


def pause_workflows(queryset: Runs, reason: str = "") -> BulkResult:
    """Let each run of the queryset that is open rest. Those that have ended, or are busy for long, are skipped."""
    surroundings.check("pause_workflows()")
    return _one_by_one(queryset, lambda run: pausing.pause_workflow(run.workflow_id, reason, run_id=run.run_id))


def resume_workflows(queryset: Runs) -> BulkResult:
    """Let each paused run of the queryset go on. The others are skipped."""
    surroundings.check("resume_workflows()")
    return _one_by_one(queryset, lambda run: pausing.resume_workflow(run.workflow_id, run_id=run.run_id))


def retry_failed(queryset: Runs, reason: str = "") -> BulkResult:
    """Let each workflow of the queryset whose last run has failed or timed out go on; the others are skipped."""
    surroundings.check("retry_failed()")
    result = BulkResult()
    for batch in batches(ids_of(queryset)):
        failed = runs.rows().filter(pk__in=batch, status__in=sorted(resetting.RETRIED)).order_by("created_at")
        done = sum(_retry(run_id, reason) for run_id in failed.values_list("pk", flat=True))
        result += BulkResult(done=done, skipped=len(batch) - done)
    return result


def _retry(run_id: UUID, reason: str) -> bool:
    latest = runs.latest_of_chain(run_id)
    if latest is None or latest.pk != run_id:
        return False  # it was tried again already
    try:
        resetting.retry_run(run_id, reason)
    except DurableError:  # it goes on already, or its workflow id has an open run
        return False
    return True


def ids_of(queryset: Runs) -> list[UUID]:
    """The runs of a queryset as it is now, and not as a replica still has it.

    Determined once: what the verbs do to them may take them out of it.
    """
    model = getattr(queryset, "model", None)
    if model is not WorkflowRun:
        given = f"of {model.__name__}" if isinstance(model, type) else repr(queryset)
        raise TypeError(f"This verb needs a queryset of WorkflowRun, such as WorkflowRun.objects.open(), not {given}.")
    return list(queryset.using(database.alias()).values_list("pk", flat=True))


def batches(ids: list[UUID]) -> Iterator[list[UUID]]:
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]


def _one_by_one(queryset: Runs, verb: Callable[[Run], bool]) -> BulkResult:
    result = BulkResult()
    for batch in batches(ids_of(queryset)):
        open_ = _open(batch)
        done = sum(_try(verb, run) for run in open_)
        result += BulkResult(done=done, skipped=len(batch) - done)
    return result


def _try(verb: Callable[[Run], bool], run: Run) -> bool:
    try:
        return verb(run)
    except DurableError:  # it stays busy
        return False


def _send(
    queryset: Runs, message: messages.Message, *, apart: Callable[[list[Run]], set[Run]] | None = None
) -> BulkResult:
    """Put a message into the inboxes of a batch at once. ``apart`` deals with some of a batch in another way first."""
    result = BulkResult()
    for batch in batches(ids_of(queryset)):
        open_ = _open(batch)
        dealt = apart(open_) if apart is not None else set()
        sent = _send_all([run for run in open_ if run not in dealt], message)
        result += BulkResult(done=len(dealt) + sent, skipped=len(batch) - len(dealt) - sent)
    return result


@outages.begins_anew
def _send_all(open_: list[Run], message: messages.Message) -> int:
    with database.writing():
        fates = inbox.deliver([(run.chain_id, message) for run in open_])
        sent = [run.chain_id for run, fate in zip(open_, fates, strict=True) if fate]
        database.on_commit(partial(messaging.hint_all, sent))
    busy = [run for run, fate in zip(open_, fates, strict=True) if fate is None]
    return len(sent) + sum(messaging.send(run.workflow_id, message, run_id=run.run_id) for run in busy)


def _cancel_unbegun(reason: str, open_: list[Run]) -> set[Run]:
    """Runs that are still to begin end at once."""
    ended = ending.cancel_unbegun([run.chain_id for run in open_], reason)
    return {run for run in open_ if run.run_id in ended}


def _open(run_ids: list[UUID]) -> list[Run]:
    found = runs.rows().filter(pk__in=run_ids, open_workflow_id__isnull=False).order_by("chain_id")
    return [Run(*row) for row in found.values_list("pk", "chain_id", "workflow_id")]
