"""What an open run still has to do with messages: people see it in its status."""

from __future__ import annotations

import msgspec


class Lingering(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``handlers`` that the run waits for before it ends, and names of ``signals`` that nobody has taken yet."""

    handlers: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()


def encode(lingering: Lingering | None) -> str | None:
    return None if lingering is None else msgspec.json.encode(lingering).decode()


def decode(data: str | None) -> Lingering | None:
    return msgspec.json.decode(data, type=Lingering) if data else None
