"""Compares what the code asks for with what history holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from django_durable.engine import words
from django_durable.engine.commands import Command
from django_durable.exceptions import DurableError, NonDeterminismError
from django_durable.history import events
from django_durable.history.events import Recorded


def drains(history: Iterable[Recorded]) -> Iterator[tuple[Recorded, list[Recorded]]]:
    """A history as inputs, each with the commands that it caused. Raises ``DurableError`` if it cannot be one.

    Notes right behind the start come before it: what follows on them is what the start has caused, or is to cause.
    """
    current: Recorded | None = None
    caused: list[Recorded] = []
    last: Recorded | None = None
    for recorded in history:
        _check_place(recorded, last)
        last = recorded
        if not recorded.event.is_input:
            caused.append(recorded)
            continue
        if isinstance(recorded.event, events.NOTES) and current is not None and _has_not_begun(current, caused):
            yield recorded, []
            continue
        if current is not None:
            yield current, caused
        current, caused = recorded, []
    if current is None:
        raise DurableError("An empty history cannot be replayed: it begins with RunStarted.")
    yield current, caused


def only_started(history: Sequence[Recorded]) -> bool:
    """Whether no step of the code is recorded: there is nothing but the start, and notes."""
    return all(isinstance(one.event, (events.RunStarted, *events.NOTES)) for one in history)


def _has_not_begun(current: Recorded, caused: list[Recorded]) -> bool:
    return isinstance(current.event, events.RunStarted) and not caused


def _check_place(recorded: Recorded, last: Recorded | None) -> None:
    name = type(recorded.event).__name__
    if (how := events.ended_from_outside(recorded.event)) is not None:
        raise DurableError(f"A run that was {how} is not replayed: its code did not end it.")
    if last is None:
        if not isinstance(recorded.event, events.RunStarted):
            raise DurableError(f"A history begins with RunStarted, not with {name}.")
    elif recorded.sequence != last.sequence + 1:
        raise DurableError(f"The history has a gap: event {recorded.sequence} follows event {last.sequence}.")
    elif isinstance(last.event, events.CLOSING):
        raise DurableError(f"The history goes on ({name}) after event {last.sequence}, which ended the run.")


def match(issued: Sequence[Command], recorded: Sequence[Recorded]) -> tuple[list[Recorded | None], list[Recorded]]:
    """For each command of a drain the event that it takes, and the events that none has taken and that matter.

    By content, the first unused one of equals, whatever the order: all of a drain happens at one time, and the order
    inside it differs between Python versions. Markers of patches matter to those only who ask for them.
    """
    taken: list[Recorded | None] = []
    unused = [item for item in recorded if not isinstance(item.event, events.PatchMarked)]
    for command in issued:
        position = next((index for index, item in enumerate(unused) if command.matches(item.event)), None)
        taken.append(None if position is None else unused.pop(position))
    return taken, unused


def parted(workflow: str, unused: Sequence[Recorded], last: int, *, requested: str, where: str) -> NonDeterminismError:
    """The error of a drain whose last event is ``last``: ``unused`` is what history holds and the code left out."""
    if unused:
        event, recorded = unused[0].sequence, words.of_event(unused[0].event)
    else:
        event, recorded = last + 1, f"nothing more after event {last}"
    return _difference(workflow, event=event, recorded=recorded, requested=requested, where=where)


def _difference(workflow: str, *, event: int, recorded: str, requested: str, where: str) -> NonDeterminismError:
    place = f" ({where})" if where else ""
    return NonDeterminismError(
        f"Workflow {workflow} does not repeat its history. Event {event}: history holds {recorded}, the code asked "
        f"for {requested}{place}. The code of a workflow must not change what running workflows have done already: "
        f"deploy code that repeats it, and the run goes on.",
        event=event,
        recorded=recorded,
        requested=requested,
        where=where,
    )
