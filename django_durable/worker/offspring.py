"""Children of an owned run: how they are started, and what they and other workflows answer."""

from __future__ import annotations

import msgspec

from django_durable.client import new_runs
from django_durable.engine.commands import ScheduleChild
from django_durable.history import events, messages
from django_durable.history.failures import Failure
from django_durable.history.status import Status
from django_durable.payloads import payload
from django_durable.store import starts
from django_durable.worker.child_starts import ChildStart
from django_durable.worker.ownership import OwnedRun


def new_child(run: OwnedRun, command: ScheduleChild) -> starts.NewRun:
    """The child as its options say, under the ids that its parent knows it by.

    In its parent's queue it waits for no turn: parents that wait for children could keep all the places.
    """
    new = new_runs.of(command.definition, command.input, headers=run.instance.beginning.headers)
    claimed = run.claimed
    parent = events.Parent(
        workflow_id=run.workflow_id, run_id=claimed.run_id, chain_id=claimed.chain_id, key=command.key
    )
    return new._replace(
        run_id=command.run_id,
        workflow_id=command.workflow_id,
        partition_key=new.partition_key or claimed.partition_key,
        admitted=new.queue == claimed.queue,
        started=msgspec.structs.replace(new.started, parent=parent),
        parent_chain_id=claimed.chain_id,
        parent_run_id=claimed.run_id,
        parent_key=command.key,
        parent_close=command.definition.options.parent_close,
    )


def starts_to_make(run: OwnedRun) -> list[ChildStart]:
    """The children with ids of their own whose start is recorded, and was not asked for here."""
    found = []
    for sequence in sorted(run.instance.unstarted - run.asked):
        command = run.instance.children[sequence].command
        start = ChildStart(
            run.claimed.chain_id, run.claimed.epoch, command.key, new_child(run, command), command.definition
        )
        found.append(start)
    run.asked |= run.instance.unstarted
    return found


def event_of(child: int, message: messages.ChildStart | messages.ChildResult) -> events.Event:
    """What a child has told, as the event of its parent; ``child`` 0: nobody waits for it any more."""
    match message:
        case messages.ChildStart(failure=None):
            return events.ChildStarted(child=child)
        case messages.ChildStart(failure=Failure() as failure):
            return events.ChildStartFailed(child=child, failure=failure)
        case messages.ChildResult(status=Status.COMPLETED):
            return events.ChildCompleted(child=child, result=message.result or payload.NULL)
    failure = message.failure or Failure(type="", message=f"The child is {message.status}.")  # type: ignore[union-attr]
    return events.ChildFailed(child=child, failure=failure, status=message.status)  # type: ignore[union-attr]


def answer_of(request: int, message: messages.ExternalResult) -> events.Event:
    """Whether a message was delivered, as the event of its sender."""
    if message.failure is None:
        return events.ExternalDelivered(request=request)
    return events.ExternalFailed(request=request, failure=message.failure)
