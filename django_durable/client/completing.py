"""Outcomes that come from outside: by the token of an activity or of a callback, in the caller's transaction."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from django_durable.client import messaging, surroundings, tokens
from django_durable.engine.callbacks import OF_CHAIN
from django_durable.exceptions import AlreadyCompleted, WorkflowClosed, WorkflowNotFound
from django_durable.history import events, failures, messages
from django_durable.history.failures import Failure
from django_durable.models import ActivityTask
from django_durable.payloads import codec, payload
from django_durable.store import database, history, inbox, outages, runs, tasks

_ANSWERED = "What this token stands for has its outcome, or its workflow does not wait for it any more."


def complete_activity(token: str, value: Any = None) -> None:
    """Give the activity or callback of ``token`` its result; stored with the caller's transaction or not at all.

    Raises ``InvalidToken`` (a ``WorkflowNotFound``), ``WorkflowClosed`` if the workflow, or the run that waited, has
    ended, ``AlreadyCompleted`` if it has its outcome or is not waited for any more, and ``PayloadError``.
    """
    place = tokens.read(token)
    _tell(place, messages.ActivityResult(key=place.key, result=codec.encode(value, what="The result of an activity")))


def fail_activity(token: str, error: BaseException | str, *, type: str | None = None) -> None:
    """Let the activity or callback of ``token`` fail for good. ``type`` is the name that the workflow sees.

    Raises what ``complete_activity`` raises.
    """
    place = tokens.read(token)
    if isinstance(error, BaseException):
        failure = failures.from_exception(error)
        failure = Failure(type=type or failure.type, message=failure.message, cause=failure.cause, data=failure.data)
    else:
        failure = Failure(type=type or "ApplicationError", message=failures.printable(str(error)))
    _tell(place, messages.ActivityResult(key=place.key, failure=failure))


def heartbeat_activity(token: str, details: Any = None) -> None:
    """Tell that whoever has ``token`` is still at it. ``details`` are what the next attempt of an activity reads.

    Raises what ``complete_activity`` raises.
    """
    place = tokens.read(token)
    stored = payload.dump(codec.encode(details, what="Heartbeat details")) if details is not None else None
    with database.writing():
        task = _waiting(place)
        tasks.beat_from_outside(task, stored)


@outages.begins_anew
def _tell(place: tokens.Place, outcome: messages.ActivityResult) -> None:
    surroundings.check("The completion of an activity")
    if not database.in_transaction():
        inbox.step_back(place.chain_id)
    with database.writing():
        if not inbox.reach(place.chain_id):
            raise _ended(place)
        task = _waiting(place)
        attempts = task.attempt - task.interruptions
        outcome = messages.with_looks(messages.with_attempts(outcome, attempts), tasks.looks_of(task.options))
        inbox.put(place.chain_id, outcome)
        task.delete(using=database.alias())
        database.on_commit(partial(messaging.hint, place.chain_id))


def _waiting(place: tokens.Place) -> ActivityTask:
    """The row that waits for this token, locked. Callers may wait for each other: the second finds it gone."""
    task = tasks.locked_by_token(place.chain_id, place.key)
    if task is not None:
        return task
    if not inbox.reach(place.chain_id):
        raise _ended(place)
    if _ended_with_its_run(place):
        raise WorkflowClosed(
            "The run that waited for this token has ended, and the run after it does not wait for it. Only callbacks "
            "with a key, ctx.callback(name, key=...), go from run to run."
        )
    raise AlreadyCompleted(_ANSWERED)


def _ended_with_its_run(place: tokens.Place) -> bool:
    """Whether what was waited for was a matter of one run, and the chain is at another one now."""
    run, _, rest = place.key.partition("-")
    return not rest.startswith(OF_CHAIN) and runs.has_begun_anew(place.chain_id, UUID(run))


def _ended(place: tokens.Place) -> Exception:
    if not runs.exists(place.chain_id):
        return WorkflowNotFound("There is no workflow that waits for this token.")
    if _has_outcome(place):
        return AlreadyCompleted(_ANSWERED)
    return WorkflowClosed("The workflow that waited for this token has ended.")


def _has_outcome(place: tokens.Place) -> bool:
    """Whether the history of an ended workflow has an outcome under this key."""
    run, _, number = place.key.partition("-")
    asked = {(UUID(run), int(number))} if number.isdecimal() else set()  # of an activity
    members = runs.rows().filter(chain_id=place.chain_id).values_list("pk", flat=True)
    kinds = (events.CallbackOpened, events.ActivityCompleted, events.ActivityFailed)
    for run_id, recorded in history.read_of_kinds(members, kinds):
        match recorded.event:
            case events.CallbackOpened(key=place.key):
                asked.add((run_id, recorded.sequence))
            case events.ActivityCompleted(activity=sequence) | events.ActivityFailed(activity=sequence):
                if (run_id, sequence) in asked:
                    return True
    return False
