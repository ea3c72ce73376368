"""Going back: a run is done once more from an earlier point of its history, as another run of its chain."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

import msgspec
from django.db import IntegrityError

from django_durable import transports
from django_durable.client import ending, messaging, revival, surroundings
from django_durable.definitions.registry import registry
from django_durable.definitions.workflow import key_of
from django_durable.engine import cuts
from django_durable.engine.cuts import Cut
from django_durable.exceptions import DurableError, UnknownDefinition, WorkflowAlreadyStarted, WorkflowNotFound
from django_durable.history import events
from django_durable.history.events import Recorded
from django_durable.history.failures import Failure
from django_durable.history.status import Status
from django_durable.models import WorkflowRun
from django_durable.release import PYTHON
from django_durable.store import (
    children,
    database,
    dispatch,
    following,
    history,
    identifiers,
    inbox,
    outages,
    outcomes,
    runs,
)

PATIENCE = 10.0  # seconds to wait for others that keep the workflow's row locked
STEP = 0.02
RETRIED = frozenset({Status.FAILED, Status.TIMED_OUT})

Planner = Callable[[Sequence[Recorded]], Cut]
"""Where to cut a history, and what goes along."""


def reset_run(run_id: UUID, to_event: int, *, reapply_signals: bool = True, reason: str = "") -> UUID:
    """Go back to just before the input whose drain holds the event ``to_event``; returns the id of the new run.

    What is before is copied, what was open there goes on. What came after is gone, but for signals, unless
    ``reapply_signals`` is false, and results of what was asked for before; if ``to_event`` is such a result itself,
    that activity is executed again. An open run ends as terminated. Raises ``WorkflowNotFound``,
    ``WorkflowAlreadyStarted`` if the run has ended and its workflow id, its chain, or, with ``one_per_subject``, its
    subject has an open run, and ``DurableError`` if there is no such event, or others keep the row locked for ten
    seconds.
    """
    surroundings.check("reset()")

    def plan(recorded: Sequence[Recorded]) -> Cut:
        before = cuts.place_of(recorded, to_event)
        return cuts.cut(recorded, before, again=before == to_event, reapply_signals=reapply_signals)

    return _persist(run_id, plan, reason or f"Reset to event {to_event}.")


def retry_run(run_id: UUID, reason: str = "") -> UUID:
    """Let a chain that has failed or timed out go on just before the failure that ended it; the new run's id.

    The activity that failed is executed again, with the same idempotency key; if the code itself has failed, its last
    step is done again. A run that timed out gets its time once more. Raises ``WorkflowNotFound``, ``DurableError``
    for a run that has not failed, ``WorkflowAlreadyStarted`` if its workflow id or its subject has an open run.
    """
    surroundings.check("retry_failed()")
    latest = runs.latest_of_chain(run_id)
    if latest is None:
        raise WorkflowNotFound(f"There is no run {run_id}.")
    if latest.status not in RETRIED:
        raise DurableError(
            f"Workflow {latest.workflow_id!r} is {latest.status}: only one that has failed or timed out can be "
            "retried. Use reset() to go back in another."
        )
    return _persist(latest.pk, plan_of_retry, reason or "Retried.")


def plan_of_retry(recorded: Sequence[Recorded]) -> Cut:
    before, again = cuts.retry_place(recorded)
    return cuts.cut(recorded, before, again=again, reapply_signals=True)


@outages.begins_anew
def _persist(run_id: UUID, plan: Planner, reason: str) -> UUID:
    """Once the run's row is not locked by others, and its owner has not just written more of its history."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with database.writing():
                new = _reset(_run(run_id), plan, reason)
        except IntegrityError:
            new = None
        if new is not None:
            return new
        if time.monotonic() > deadline:
            raise DurableError(
                f"Run {run_id} could not be reset: other transactions keep its row locked. Try again once they have "
                "ended."
            )
        time.sleep(STEP)


def _run(run_id: UUID) -> WorkflowRun:
    run = runs.rows().filter(pk=run_id).first()
    if run is None:
        raise WorkflowNotFound(f"There is no run {run_id}.")
    return run


def _reset(base: WorkflowRun, plan: Planner, reason: str) -> UUID | None:
    """In the caller's transaction; None: its row is busy."""
    if base.open_workflow_id is None:
        return reopen(base, plan, reason)
    locked = dispatch.locked_for_end([base.chain_id], against_senders=False).get(base.chain_id)
    if locked is None or locked[0] != base.pk:
        return None
    following_id = identifiers.uuid7(after=base.pk)
    ended = f"{reason} It goes on as run {following_id}."
    # The owner's next event is refused from here on, so what is read now is all that there is.
    history.append(history.after_last([(base.pk, events.RunTerminated(reason=ended))]))
    recorded = history.read([base.pk])[base.pk][:-1]
    cut = plan(recorded)
    follows = _following(base, recorded, cut, following_id, reason)
    kept = (*_keys(recorded, (*cut.again, *cut.interrupted)), *_older(recorded, cut))
    failure = msgspec.json.encode(Failure(type="Terminated", message=ended)).decode()
    end = runs.Ending(
        base.chain_id,
        base.pk,
        Status.TERMINATED,
        failure=failure,
        follows=follows,
        keeps=kept,
        unseen=cut.unseen,
    )
    runs.close([end])
    _go_on(base, cut, following_id)
    database.on_commit(partial(messaging.close_children, [base.chain_id]))
    ending.announce(runs.rows().get(pk=base.pk), Status.TERMINATED)
    return following_id


def reopen(base: WorkflowRun, plan: Planner, reason: str) -> UUID:
    """Let the chain of a run that has ended go on, in the caller's transaction.

    Raises ``WorkflowAlreadyStarted``, ``WorkflowNotFound``, or ``IntegrityError`` if it is to be tried again.
    """
    if not runs.hold(base.pk):
        raise WorkflowNotFound(f"Run {base.pk} has just been pruned.")
    recorded = history.read([base.pk])[base.pk]
    cut = plan(recorded)
    following_id = identifiers.uuid7(after=base.pk)
    if not following.reopen(_following(base, recorded, cut, following_id, reason), base):
        raise _taken(base, recorded)
    if base.parent_chain_id is not None and not dispatch.existing([base.parent_chain_id]):
        runs.rows().filter(pk=following_id).update(parent_close=children.TOLD)  # nobody's end is to end it
    _go_on(base, cut, following_id)
    return following_id


def _taken(base: WorkflowRun, recorded: Sequence[Recorded]) -> Exception:
    """Why a run that has ended cannot go on."""
    other = runs.open_about(following.subject_of(base)) if _started(recorded).one_per_subject else None
    if other is not None and other.workflow_id != base.workflow_id:
        return WorkflowAlreadyStarted(
            f"Run {base.pk} of workflow {base.workflow_id!r} has ended, and workflow {other.workflow_id!r} "
            f"({other.name}) is running for {base.subject_type} {base.subject_id} (run {other.pk}): one_per_subject "
            "allows one run at a time for the same subject. Wait for its end, or terminate it first.",
            workflow_id=other.workflow_id,
            run_id=other.pk,
        )
    key = _started(recorded).singleton_key
    alone = runs.open_singleton(key_of(base.name, key)) if key is not None else None
    if alone is not None and alone[0] != base.workflow_id:
        return WorkflowAlreadyStarted(
            f"Run {base.pk} of workflow {base.workflow_id!r} has ended, and workflow {alone[0]!r} (run {alone[1]}) is "
            f"running with the same singleton_key {key!r}. Wait for its end, or terminate it first.",
            workflow_id=alone[0],
            run_id=alone[1],
        )
    taken = runs.open_run(base.workflow_id)
    if taken is None:
        return IntegrityError("Whoever stood in the way has ended meanwhile.")
    return WorkflowAlreadyStarted(
        f"Run {base.pk} of workflow {base.workflow_id!r} has ended, and the workflow goes on as run {taken}: only "
        "one run of it can be open. Reset that one, or terminate it first.",
        workflow_id=base.workflow_id,
        run_id=taken,
    )


def _started(recorded: Sequence[Recorded]) -> events.RunStarted:
    started = recorded[0].event
    assert isinstance(started, events.RunStarted)
    return started


def _following(
    base: WorkflowRun, recorded: Sequence[Recorded], cut: Cut, run_id: UUID, reason: str
) -> following.Following:
    started = _started(recorded)
    if cut.before == 1:
        started = msgspec.structs.replace(started, seed=secrets.randbits(63), python=PYTHON)
    reset = events.RunReset(
        from_run=base.pk, run_id=run_id, reason=reason, again=cut.again, interrupted=cut.interrupted
    )
    return following.Following(
        chain_id=base.chain_id,
        ended=base.pk,
        run_id=run_id,
        started=started,
        fingerprint=_fingerprint(base),
        copies=cut.before - 1,
        reset=reset,
    )


def _go_on(base: WorkflowRun, cut: Cut, run_id: UUID) -> None:
    """What the new run needs of others: messages, and its children. What it does once more is open once more."""
    outcomes.forget(base.chain_id, cut.decided)
    answers = revival.carry_children(cut.children, run_id, reopen=reopen, plan=plan_of_retry)
    inbox.put_first(base.chain_id, (*cut.carried, *answers))
    database.on_commit(partial(transports.hint_work, base.queue))


def _keys(recorded: Sequence[Recorded], sequences: Sequence[int]) -> tuple[str, ...]:
    return tuple(recorded[sequence - 1].event.key for sequence in sequences)  # type: ignore[attr-defined]


def _older(recorded: Sequence[Recorded], cut: Cut) -> tuple[str, ...]:
    """Keys of callbacks that the base has got from the run before it, if the new run begins as it did."""
    return tuple(one.key for one in cuts.carried_callbacks(recorded)) if cut.before == 1 else ()


def _fingerprint(base: WorkflowRun) -> str:
    try:
        return registry.workflow(base.name, base.version).fingerprint
    except UnknownDefinition:
        return base.fingerprint
