"""What processes of ours say to each other: messages behind their lengths, over two pipes.

A worker to its activity processes, and ``durable_worker --processes`` to its workers.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
    queue: str
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
    told: bool = False


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """To a worker of a crew: the first signal has come."""


class Force(msgspec.Struct, frozen=True, tag="force"):
    """To a worker of a crew: the second signal has come."""


class Report(msgspec.Struct, frozen=True, kw_only=True, tag="report"):
    """From a worker of a crew: what it has in hand, and what it has done since it began."""

    runs: int = 0
    jobs: int = 0
    events: int = 0
    activities: int = 0


Message = Run | Row | Stop | Beat | Open | Done | Drain | Force | Report

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
        head = self._read(_LENGTH.size)
        if head is None:
            return None
        (length,) = _LENGTH.unpack(head)
        data = self._read(length)
        return _decoder.decode(data) if data is not None else None

    def _read(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            part = self._receiving.read(size - len(data))
            if not part:
                return None
            data += part
        return data

    def close(self) -> None:
        """Both ends; what is underway is lost."""
        for end in (self._sending, self._receiving):
            try:
                end.close()
            except OSError:  # nobody reads what was still to be sent
                pass


@contextmanager
def over_standard_streams() -> Iterator[Pipe]:
    """The pipe to the process that has started this one.

    It takes the place of standard input and output: what code prints goes to standard error, and not between messages.
    """
    receiving, sending = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    # Without a buffer, and left open: a buffer cannot be closed while a thread waits for the next message.
    yield Pipe(os.fdopen(receiving, "rb", buffering=0), os.fdopen(sending, "wb"))
