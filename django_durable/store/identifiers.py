"""Run ids: UUID version 7 (RFC 9562), whose order is the order of creation, so that indexes grow at one end.

And the names of processes.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from uuid import UUID

_lock = threading.Lock()
_last = 0


def uuid7(*, after: UUID | None = None) -> UUID:
    """A new id: 48 bits of Unix milliseconds, 12 bits that keep a process's ids in order, 62 random bits.

    Greater than ``after``, whatever clock that was made by: so the runs of a chain are in order.
    """
    global _last
    with _lock:
        # Milliseconds with 12 bits of fraction (RFC 9562, section 6.2, method 3), never the same twice.
        _last = max(_last + 1, (time.time_ns() << 12) // 1_000_000)
        stamp = _last if after is None else max(_last, _stamp(after) + 1)
    milliseconds, fraction = stamp >> 12, stamp & 0xFFF
    random = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    return UUID(int=(milliseconds & ((1 << 48) - 1)) << 80 | 7 << 76 | fraction << 64 | 0b10 << 62 | random)


def _stamp(identifier: UUID) -> int:
    return (identifier.int >> 80) << 12 | (identifier.int >> 64 & 0xFFF)


def derived(*parts: str) -> UUID:
    """An id that says what it was made of, the same every time: 74 bits of a hash.

    It has the form of the other ids, with the time 0, so that the runs which follow in its chain are greater. Not that
    of version 8, which is meant for such ids: MariaDB's UUID type does not take one in 64 of those.
    """
    digest = hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).digest()
    number = int.from_bytes(digest[:10])
    high, low = number >> 62 & 0xFFF, number & ((1 << 62) - 1)
    return UUID(int=7 << 76 | high << 64 | 0b10 << 62 | low)


def process_name() -> str:
    """What people know this process by: host and process id. It may come again, after months or at once."""
    return f"{socket.gethostname()}:{os.getpid()}"
