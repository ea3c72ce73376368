"""What this release can read, as one short text: a run that an older one could not read is offered to a newer one."""

from __future__ import annotations

import hashlib
from functools import cache

from django_durable.history import codec, messages
from django_durable.payloads import sealing


def current() -> str:
    """16 hexadecimal digits that change with the kinds of events and messages, codecs and keys that can be read."""
    return _digest(codec.SCHEMA, codec.known(), messages.KINDS, sealing.current().readable())


@cache
def _digest(schema: int, events: tuple[str, ...], kinds: tuple[str, ...], payloads: str) -> str:
    return hashlib.sha256(f"{schema} {' '.join(events)} {' '.join(kinds)} {payloads}".encode()).hexdigest()[:16]
