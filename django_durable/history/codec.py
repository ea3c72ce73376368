"""Events <-> the text that is stored, with upcasting of older schema versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from django_durable.exceptions import DurableError
from django_durable.history import events

SCHEMA = 1
"""Version of the stored form that this release writes."""

UPCASTS: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""(event type, schema version) -> what turns that stored form into the next version's. Never removed."""

_encoder = msgspec.json.Encoder()
_decoders = {name: msgspec.json.Decoder(kind) for name, kind in events.TYPES.items()}


def known() -> tuple[str, ...]:
    """The types of events that this release can read."""
    return tuple(sorted(_decoders))


class UnreadableEvent(DurableError):
    """A stored event is of a type or schema version that this release does not know."""


def encode(event: events.Event) -> bytes:
    """The stored form of ``event``: UTF-8 JSON of its fields. Its type and ``SCHEMA`` are stored beside it."""
    return _encoder.encode(event)


def decode(type_name: str, data: bytes | str, schema: int = SCHEMA) -> events.Event:
    """Read a stored event. Raises ``UnreadableEvent`` for a newer release's event or damaged data."""
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


def _upcast(type_name: str, data: bytes | str, schema: int) -> bytes:
    fields = msgspec.json.decode(data)
    for version in range(schema, SCHEMA):
        upcast = UPCASTS.get((type_name, version))
        fields = upcast(fields) if upcast else fields
    return _encoder.encode(fields)
