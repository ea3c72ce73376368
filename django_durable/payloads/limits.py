"""How large a stored value may be.

This layer knows no settings: whoever does gives a source with ``read_from`` and calls ``reset`` when they change.
Between resets the answer is kept, because every single encode asks for it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes of the encoded form."""

    max_bytes: int = 2 * 1024 * 1024
    """Larger values are refused."""
    warn_bytes: int = 256 * 1024
    """Values from this size on are logged with a warning."""


class _Source:
    """Where the limits come from, and the last answer."""

    __slots__ = ("known", "read")

    def __init__(self) -> None:
        self.read: Callable[[], Limits] = Limits
        self.known: Limits | None = None


_source = _Source()


def current() -> Limits:
    """The limits as they are now."""
    known = _source.known
    if known is None:
        known = _source.known = _source.read()
    return known


def read_from(source: Callable[[], Limits]) -> None:
    """Ask ``source`` from now on."""
    _source.read = source
    reset()


def reset() -> None:
    """Ask the source again at the next ``current()``."""
    _source.known = None
