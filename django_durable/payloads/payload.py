"""A stored value: its encoded form and the name of the format that reads it."""

from __future__ import annotations

import msgspec

from django_durable.exceptions import PayloadUnreadable
from django_durable.payloads import sealing
from django_durable.payloads.packing import JSON


class Payload(msgspec.Struct, frozen=True, array_like=True):
    """A value as it is stored, byte for byte: ``["json", <the JSON text itself>]``.

    Never goes through a JSON column: a database that parses JSON changes key order and numbers, and a replay
    would see another value than the live run did. A sealed one is ``["json+zlib", "<base64 of its bytes>"]``.
    """

    format: str
    data: msgspec.Raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Payload) and self.format == other.format and bytes(self.data) == bytes(other.data)

    def __hash__(self) -> int:
        return hash((self.format, bytes(self.data)))

    @property
    def size(self) -> int:
        """Length of the encoded value, in bytes."""
        return len(bytes(self.data))


def json_payload(text: bytes) -> Payload:
    """Wrap JSON text that is already encoded."""
    return Payload(JSON, msgspec.Raw(text))


NULL = json_payload(b"null")


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Payload)


def dump(payload: Payload) -> str:
    """The text under which a payload stands in a column of its own."""
    return _encoder.encode(payload if sealing.state.is_plain else sealed(payload)).decode()


def load(text: str) -> Payload:
    """The payload of such a column, as it stands there: ``opened`` makes it readable, and ``codec.read`` does so."""
    return _decoder.decode(text)


def sealed(payload: Payload) -> Payload:
    """``payload`` as the settings want it stored. One that is sealed already stays as it is."""
    if payload.format != JSON:
        return payload
    format, data = sealing.current().close(bytes(payload.data))
    return Payload(format, msgspec.Raw(data))


def is_offloaded(payload: Payload) -> bool:
    """Whether a codec that is configured keeps it elsewhere."""
    return payload.format != JSON and not sealing.current().offloading.isdisjoint(payload.format.split("+"))


def embedded(payload: Payload) -> Payload:
    """``payload`` as it would be if nothing of it were kept elsewhere. Raises ``PayloadUnreadable``."""
    if not is_offloaded(payload):
        return payload
    format, data = sealing.current().embed(payload.format, bytes(payload.data))
    return Payload(format, msgspec.Raw(data))


def discard(payload: Payload) -> None:
    """Delete what is kept elsewhere of a payload that nobody refers to any more. Raises ``PayloadUnreadable``."""
    if is_offloaded(payload):
        sealing.current().discard(payload.format, bytes(payload.data))


def opened(payload: Payload, *, what: str) -> Payload:
    """``payload`` as JSON, whatever the settings are now. Raises ``PayloadUnreadable``, which ``what`` begins."""
    if payload.format == JSON:
        return payload
    try:
        return json_payload(sealing.current().open(payload.format, bytes(payload.data)))
    except PayloadUnreadable as error:
        raise PayloadUnreadable(f"{what} is stored {error}") from error
