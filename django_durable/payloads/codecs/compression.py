"""Compression, with a bound for what little may grow to."""

from __future__ import annotations

import zlib

from django_durable.exceptions import PayloadUnreadable
from django_durable.payloads.codecs.base import Codec


class Zlib(Codec):
    """zlib at ``level`` 1 (fastest) to 9 (smallest), for values of at least ``from_bytes`` bytes."""

    name = "zlib"

    def __init__(self, *, level: int = 6, from_bytes: int = 512) -> None:
        if not 1 <= level <= 9:
            raise ValueError(f"level is {level!r}, but must be a whole number from 1 to 9.")
        if from_bytes < 0:
            raise ValueError(f"from_bytes is {from_bytes!r}, but must be a number of bytes.")
        self._level = level
        self._from_bytes = from_bytes

    def encode(self, data: bytes) -> bytes | None:
        if len(data) < self._from_bytes:
            return None
        compressed = zlib.compress(data, self._level)
        return compressed if len(compressed) < len(data) else None

    def decode(self, data: bytes, *, limit: int) -> bytes:
        reader = zlib.decompressobj()
        try:
            expanded = reader.decompress(data, limit + 1)
        except zlib.error as error:
            raise PayloadUnreadable(f"it is damaged: {error}") from error
        if len(expanded) > limit:
            raise PayloadUnreadable(
                f'it grows to more than {limit:,} bytes. If that is meant, raise DURABLE["MAX_PAYLOAD_BYTES"]'
            )
        if not reader.eof:
            raise PayloadUnreadable("it is damaged: its end is missing")
        return expanded
