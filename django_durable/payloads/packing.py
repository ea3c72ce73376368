"""JSON text in another notation, and the very same text back."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import msgspec

JSON = "json"
MSGPACK = "msgpack"
PROTOBUF = "protobuf"
NAMES = (JSON, MSGPACK, PROTOBUF)


class Packing(NamedTuple):
    """``write`` turns what JSON holds into bytes, ``read`` does the reverse. Either raises for what it cannot do."""

    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]

    def pack(self, text: bytes) -> bytes | None:
        """The same value in fewer bytes. None: ``unpack`` would give another text, so it stays JSON.

        That is so for whole numbers of more than 64 bits, and for what is nested more deeply than a notation allows.
        """
        try:
            packed = self.write(msgspec.json.decode(text))
            return packed if self.unpack(packed) == text else None
        except Exception:  # each notation has errors of its own
            return None

    def unpack(self, packed: bytes) -> bytes:
        return msgspec.json.encode(self.read(packed))


@cache
def of(name: str) -> Packing:
    """The notation of that name, any of ``NAMES`` but JSON. Raises ``ImportError`` if its package is not installed."""
    if name == MSGPACK:
        return Packing(msgspec.msgpack.encode, msgspec.msgpack.decode)
    protobuf = importlib.import_module("django_durable.payloads.protobuf")  # an optional package
    return Packing(protobuf.write, protobuf.read)
