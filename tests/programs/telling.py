"""What has become of a program, in plain values: the same in each run of it, but for what is left out here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from django_durable.history import events
from django_durable.history.events import Event, Recorded
from django_durable.models import Update, WorkflowRun
from django_durable.payloads import codec
from django_durable.payloads.payload import Payload
from django_durable.store import history
from tests.programs.interpreter import interpret

LEFT_OUT = {
    "seed": "random, if the test does not set it",
    "key": "made of the run's id and the event's sequence",
    "token": "made of the key",
    "url": "made of the token",
    "worker": "who executes it, and whether by a task row, is no matter of the workflow's",
    "epoch": "counts who has had the run",
    "traceback": "for people",
}
"""Fields of events that are not compared, and why. Everything else is: ids by whose they are, times by how much later
than the first event they are, sequences by the event that they mean."""

REFERENCES = {"activity", "timer", "child", "request"}
"""Fields that hold the sequence of the event that theirs belongs to."""


class Entry(NamedTuple):
    """An event: microseconds since the program began, its type and its fields."""

    after: int
    type: str
    fields: dict[str, Any]


class Told(NamedTuple):
    """``runs``: the history of each, by the path of its program and its number among those of that path."""

    runs: dict[tuple[str, int], list[Entry]]
    statuses: dict[tuple[str, int], str]
    replies: list[tuple[str, str]]  # update and state


def tell(began: datetime) -> Told:
    """Everything that this database holds; it must be of one program."""
    rows = list(WorkflowRun.objects.order_by("created_at", "pk"))
    histories = history.read([row.pk for row in rows])
    labels = _labels({row.pk: histories[row.pk] for row in rows})
    names = _Names({row.pk: f"<{path} {number}>" for row, (path, number) in zip(rows, labels, strict=True)})
    return Told(
        runs={label: _entries(histories[row.pk], began, names) for row, label in zip(rows, labels, strict=True)},
        statuses={label: str(row.status) for row, label in zip(rows, labels, strict=True)},
        replies=sorted(Update.objects.values_list("update_id", "state")),
    )


def in_any_order(told: Told) -> Told:
    """Without what dying workers may change.

    They may change which of the events of one moment is first. Nothing else may: each event comes at the same moment,
    with the same fields. The numbers that a run draws at random are dealt out in the order in which its tasks ask for
    them, so they are left out too.
    """
    return told._replace(
        runs={label: sorted(map(_without_draws, entries), key=repr) for label, entries in told.runs.items()}
    )


def _labels(histories: dict[UUID, list[Recorded]]) -> list[tuple[str, int]]:
    numbers: Counter[str] = Counter()
    labels = []
    for recorded in histories.values():
        started = recorded[0].event
        assert isinstance(started, events.RunStarted)
        path = interpret.decode_input(started.input)[0][1]
        numbers[path] += 1
        labels.append((path, numbers[path]))
    return labels


class _Names:
    """Puts names in the place of ids, which are others in each run of a program."""

    def __init__(self, names: dict[UUID, str]) -> None:
        self._names = names
        self._texts = {text: name for key, name in names.items() for text in (str(key), key.hex)}

    def plain(self, value: Any) -> Any:
        match value:
            case Payload():
                return self.plain(codec.decode(value, what="A value of a program"))
            case msgspec.Struct():
                fields = {name: getattr(value, name) for name in value.__struct_fields__ if name not in LEFT_OUT}
                return self.plain(fields)
            case dict():
                return {key: self.plain(one) for key, one in value.items()}
            case list() | tuple():
                return [self.plain(one) for one in value]
            case UUID():
                return self._names[value]
            case str():
                return self._text(value)
        return value

    def _text(self, text: str) -> str:
        if len(text) >= len(UUID(int=0).hex):
            for key, name in self._texts.items():
                text = text.replace(key, name)
        return text


def _entries(recorded: Iterable[Recorded], began: datetime, names: _Names) -> list[Entry]:
    entries: dict[int, Entry] = {}
    for one in recorded:
        entries[one.sequence] = _entry(one.event, one.time, began, names, entries)
    return list(entries.values())


def _entry(event: Event, time: datetime, began: datetime, names: _Names, before: dict[int, Entry]) -> Entry:
    fields: dict[str, Any] = names.plain(event)
    for name in REFERENCES & fields.keys():
        meant = before[fields[name]]
        fields[name] = meant
    after = time - began
    return Entry((after.days * 86_400 + after.seconds) * 1_000_000 + after.microseconds, type(event).__name__, fields)


def _without_draws(value: Any) -> Any:
    match value:
        case Entry():
            return value._replace(fields=_without_draws(value.fields))
        case dict():
            return {key: _without_draws(one) for key, one in value.items()}
        case ["draw", int()]:
            return ["draw"]
        case list():
            return [_without_draws(one) for one in value]
    return value
