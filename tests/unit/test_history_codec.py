"""What older releases stored is read for ever; what newer ones store is told apart from damage."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from django_durable.engine.instance import Instance
from django_durable.history import codec, events, messages, vocabulary
from django_durable.history.codec import UnreadableEvent
from django_durable.history.events import Recorded
from django_durable.payloads.payload import NULL
from tests.replay.stories import HERE
from tests.replay.workflows import WORKFLOWS
from tests.unit.engine_harness import INFO


@pytest.fixture
def later(monkeypatch):
    """A release two schema versions on. In version 1 ``result`` was called ``outcome``, in version 2 it was wrapped."""
    monkeypatch.setattr(codec, "SCHEMA", 3)
    monkeypatch.setitem(codec.UPCASTS, ("ActivityCompleted", 1), _wrap)
    monkeypatch.setitem(codec.UPCASTS, ("ActivityCompleted", 2), _unwrap)


def _wrap(fields: dict[str, Any]) -> dict[str, Any]:
    return {"wrapped": {"result": fields.pop("outcome")}, **fields}


def _unwrap(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields.pop("wrapped"), **fields}


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        (1, '{"activity":2,"outcome":["json",null],"attempts":3}'),
        (2, '{"activity":2,"wrapped":{"result":["json",null]},"attempts":3}'),
        (3, '{"activity":2,"result":["json",null],"attempts":3}'),
    ],
)
def test_each_older_shape_is_brought_up_version_by_version(later, schema, data):
    event = codec.decode("ActivityCompleted", data, schema)
    assert event == events.ActivityCompleted(activity=2, result=NULL, attempts=3)


def test_events_whose_shape_has_not_changed_need_no_upcast(later):
    assert codec.decode("TimerFired", '{"timer":4}', 1) == events.TimerFired(timer=4)


def test_a_history_in_the_oldest_shape_replays_on_the_newest_release(later):
    history = [_reread(row) for row in json.loads((HERE / "order-py3.11.json").read_text())]
    instance = Instance(WORKFLOWS["order"], INFO)
    assert instance.replay(history) is None
    assert instance.closed
    instance.evict()


def _reread(row: dict[str, Any]) -> Recorded:
    """As version 1 of the fixture has stored it, read by version 3."""
    data = row["data"].replace('"result":', '"outcome":') if row["type"] == "ActivityCompleted" else row["data"]
    return Recorded(row["sequence"], datetime.fromisoformat(row["time"]), codec.decode(row["type"], data, 1))


@pytest.mark.parametrize(("kind", "schema"), [("FromTheFuture", 1), ("TimerFired", codec.SCHEMA + 1)])
def test_what_a_newer_release_wrote_asks_for_an_upgrade(kind, schema):
    with pytest.raises(UnreadableEvent, match=rf"{kind}.*newer release.*Upgrade this worker"):
        codec.decode(kind, '{"timer":4}', schema)


@pytest.mark.parametrize("data", ["{", '{"timer":"four"}', "{}", b"\xff"])
def test_damage_is_told_apart(data):
    with pytest.raises(UnreadableEvent, match="'TimerFired' cannot be read"):
        codec.decode("TimerFired", data)


def test_fields_that_a_newer_release_has_added_are_passed_over():
    assert codec.decode("TimerFired", '{"timer":4,"since":"then"}') == events.TimerFired(timer=4)


def test_what_can_be_read_has_a_name_that_changes_with_it(monkeypatch):
    now = vocabulary.current()
    assert len(now) == 16
    monkeypatch.setattr(codec, "SCHEMA", codec.SCHEMA + 1)
    assert vocabulary.current() != now
    monkeypatch.undo()
    monkeypatch.delitem(codec._decoders, "TimerFired")
    assert vocabulary.current() != now
    monkeypatch.undo()
    assert vocabulary.current() == now
    monkeypatch.setattr(messages, "KINDS", (*messages.KINDS, "postcard"))
    assert vocabulary.current() != now


@pytest.mark.parametrize("data", ['{"type":"from the future","a":1}', "{", '{"type":"signal"}'])
def test_a_message_of_a_newer_release_is_kept_as_it_is(data):
    message = messages.decode(data)
    assert isinstance(message, messages.Unreadable)
    assert message.data == data
