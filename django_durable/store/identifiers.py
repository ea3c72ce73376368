"""Run ids: UUID version 7 (RFC 9562), whose order is the order of creation, so that indexes grow at one end."""

from __future__ import annotations

import os
import threading
import time
from uuid import UUID

_lock = threading.Lock()
_last = 0


def uuid7() -> UUID:
    """A new id: 48 bits of Unix milliseconds, 12 bits that keep a process's ids in order, 62 random bits."""
    global _last
    with _lock:
        # Milliseconds with 12 bits of fraction (RFC 9562, section 6.2, method 3), never the same twice.
        _last = max(_last + 1, (time.time_ns() << 12) // 1_000_000)
        stamp = _last
    milliseconds, fraction = stamp >> 12, stamp & 0xFFF
    random = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    return UUID(int=(milliseconds & ((1 << 48) - 1)) << 80 | 7 << 76 | fraction << 64 | 0b10 << 62 | random)
