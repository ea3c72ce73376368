"""A stored value: its encoded form and the name of the format that reads it."""

from __future__ import annotations

import msgspec

JSON = "json"


class Payload(msgspec.Struct, frozen=True, array_like=True):
    """A value as it is stored, byte for byte: ``["json", <the JSON text itself>]``.

    Never goes through a JSON column: a database that parses JSON changes key order and numbers, and a replay
    would see another value than the live run did.
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
    return _encoder.encode(payload).decode()


def load(text: str) -> Payload:
    """The payload of such a column."""
    return _decoder.decode(text)
