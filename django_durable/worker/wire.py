"""What a worker and its activity processes say to each other: messages behind their lengths, over two pipes."""

from __future__ import annotations

import struct
import threading
from typing import IO
from uuid import UUID

import msgspec

from django_durable.history.failures import Failure
from django_durable.payloads.payload import Payload

_LENGTH = struct.Struct(">I")


class Run(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """To the process: execute this attempt. ``databases``: their names, by alias, as the worker uses them."""

    name: str
    options: str
    input: Payload
    workflow_id: str
    run_id: UUID
    chain_id: UUID
    key: str
    sequence: int
    attempt: int
    interruptions: int
    headers: Payload | None
    last_details: Payload | None
    stopping: bool
    has_row: bool  # so that its token leads somewhere
    databases: dict[str, str]


class Row(msgspec.Struct, frozen=True, tag="row"):
    """To the process: whether the attempt has a row now."""

    there: bool


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """To the process: the worker drains, which the activity may want to know."""


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag="beat"):
    """From the process: the activity is alive."""

    details: Payload | None = None


class Open(msgspec.Struct, frozen=True, tag="open"):
    """From the process: somebody has asked for the activity's token, so it needs a row."""


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """From the process: how the attempt ended. ``retry_after``: seconds; None: the end is final."""

    result: Payload | None = None
    failure: Failure | None = None
    retry_after: float | None = None
    later: bool = False


Message = Run | Row | Stop | Beat | Open | Done

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class Pipe:
    """Two ends of two pipes. Any thread may send; one receives."""

    def __init__(self, receiving: IO[bytes], sending: IO[bytes]) -> None:
        self._receiving = receiving
        self._sending = sending
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Raises ``OSError`` if the other side is gone."""
        data = _encoder.encode(message)
        with self._lock:
            self._sending.write(_LENGTH.pack(len(data)) + data)
            self._sending.flush()

    def receive(self) -> Message | None:
        """The next message; None: the other side is gone."""
        head = self._receiving.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(head)
        data = self._receiving.read(length)
        return _decoder.decode(data) if len(data) == length else None

    def close(self) -> None:
        """Both ends; what is underway is lost."""
        for end in (self._sending, self._receiving):
            try:
                end.close()
            except OSError:  # nobody reads what was still to be sent
                pass
