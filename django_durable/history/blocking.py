"""Why a run is parked: what people and ``get_workflow_status`` see of it."""

from __future__ import annotations

import msgspec

from django_durable.exceptions import NonDeterminismError
from django_durable.history.codec import UnreadableEvent


class Block(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reason of a blocked run.

    ``event`` is the sequence where history and code part, ``recorded`` what history holds, ``requested`` what the
    code asked for, ``where`` the line of code, ``since`` when (ISO 8601), ``times`` how often in a row.
    """

    reason: str
    message: str
    event: int | None = None
    recorded: str = ""
    requested: str = ""
    where: str = ""
    since: str = ""
    times: int = 1


def nondeterminism(error: NonDeterminismError) -> Block:
    return Block(
        reason="nondeterminism",
        message=str(error),
        event=error.event,
        recorded=error.recorded,
        requested=error.requested,
        where=error.where,
    )


def failure(error: BaseException) -> Block:
    """The engine, not the workflow's code, could not go on with this run."""
    return Block(reason="error", message=f"{type(error).__name__}: {error}"[:4_096])


def unreadable(error: UnreadableEvent) -> Block:
    """A newer release has written something that this one cannot read, or a key or a codec is missing."""
    return Block(reason="unreadable", message=str(error)[:4_096])


def raised(error: BaseException, *, event: int, where: str) -> Block:
    """The workflow's code has raised, and the project's settings say that this blocks the run.

    ``event`` is the place of the input at which it did.
    """
    what = f"{type(error).__name__}: {error}"[:4_096]
    return Block(reason="exception", message=what, event=event, requested="the run to fail", where=where)


def missing(definition: str) -> Block:
    """No live worker has the run's workflow, or its version."""
    name, _, version = definition.partition("\t")
    what = f"version {version!r} of workflow {name!r}" if version else f"workflow {name!r}"
    return Block(reason="missing", message=f"No live worker has {what}. Start one with code that does.")


def stuck(where: str) -> Block:
    return Block(
        reason="stuck",
        message=(
            "The workflow's code ran for too long without awaiting anything, and could not be stopped. "
            "Move slow or blocking work into an activity."
        ),
        where=where,
    )


def crashing(times: int) -> Block:
    return Block(
        reason="crashing",
        message=(
            f"The last {times} workers that had this run died before it made any progress. Look into their logs for "
            "what ends the process, such as a lack of memory, and deploy code that does without."
        ),
    )


def encode(block: Block) -> str:
    return msgspec.json.encode(block).decode()


def decode(data: str | None) -> Block | None:
    return msgspec.json.decode(data, type=Block) if data else None
