"""Events <-> the text that is stored, with upcasting of older schema versions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from django_durable.exceptions import DurableError, PayloadUnreadable
from django_durable.history import events
from django_durable.payloads import sealing
from django_durable.payloads.carriers import Carriers
from django_durable.payloads.payload import Payload

SCHEMA = 1
"""Version of the stored form that this release writes."""

UPCASTS: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""(event type, schema version) -> what turns that stored form into the next version's. Never removed."""

_encoder = msgspec.json.Encoder()
_decoders = {name: msgspec.json.Decoder(kind) for name, kind in events.TYPES.items()}
_carriers = Carriers(events.TYPES.values())


def known() -> tuple[str, ...]:
    """The types of events that this release can read."""
    return tuple(sorted(_decoders))


class UnreadableEvent(DurableError):
    """A stored event is of a type or schema version that this release does not know, or its payload cannot be read."""


def encode(event: events.Event) -> bytes:
    """The stored form of ``event``: UTF-8 JSON of its fields. Its type and ``SCHEMA`` are stored beside it."""
    return _encoder.encode(event if sealing.state.is_plain else _carriers.sealed(event))


def size(event: events.Event) -> int:
    """Characters that ``event`` takes with its payloads as JSON: what workflow code sees depends on no settings."""
    return len(_encoder.encode(event).decode())


def record(sequence: int, time: datetime, type_name: str, data: str, schema: int) -> events.Recorded:
    """A stored event with its place and size. Raises ``UnreadableEvent``."""
    event = _read(type_name, data, schema)
    if not _carriers.is_sealed(event):
        return events.Recorded(sequence, time, event, len(data))
    opened = _opened(event)
    return events.Recorded(sequence, time, opened, size(opened))


def decode(type_name: str, data: bytes | str, schema: int = SCHEMA) -> events.Event:
    """Read a stored event, its payloads opened.

    Raises ``UnreadableEvent`` for a newer release's event, damaged data, or a payload whose key or codec is missing.
    """
    event = _read(type_name, data, schema)
    return _opened(event) if _carriers.is_sealed(event) else event


def offloaded(type_name: str, data: str, schema: int) -> list[Payload]:
    """Those payloads of a stored event that a codec keeps elsewhere. Raises ``UnreadableEvent``."""
    return _carriers.offloaded(_read(type_name, data, schema)) if _may_be_elsewhere(data) else []


def embedded(type_name: str, data: str, schema: int) -> tuple[str, int]:
    """A stored event, and its schema version, without what a codec keeps elsewhere. Raises ``UnreadableEvent``."""
    if not _may_be_elsewhere(data):
        return data, schema
    try:
        return _encoder.encode(_carriers.embedded(_read(type_name, data, schema))).decode(), SCHEMA
    except PayloadUnreadable as error:
        raise UnreadableEvent(str(error)) from error


def _may_be_elsewhere(data: str) -> bool:
    """Cheap, and no proof: a value may hold the same text."""
    return any(f"+{name}" in data for name in sealing.current().offloading)


def _read(type_name: str, data: bytes | str, schema: int) -> events.Event:
    decoder = _decoders.get(type_name)
    if decoder is None or schema > SCHEMA:
        raise UnreadableEvent(
            f"Event {type_name!r} of schema version {schema} was written by a newer release of django_durable "
            f"(this one reads versions up to {SCHEMA}). Upgrade this worker."
        )
    if schema < SCHEMA:
        data = _upcast(type_name, data, schema)
    try:
        return decoder.decode(data)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise UnreadableEvent(f"Stored event {type_name!r} cannot be read: {error}") from error


def _opened(event: events.Event) -> events.Event:
    try:
        return _carriers.opened(event)
    except PayloadUnreadable as error:
        raise UnreadableEvent(str(error)) from error


def _upcast(type_name: str, data: bytes | str, schema: int) -> bytes:
    fields = msgspec.json.decode(data)
    for version in range(schema, SCHEMA):
        upcast = UPCASTS.get((type_name, version))
        fields = upcast(fields) if upcast else fields
    return _encoder.encode(fields)
