"""What a run says it is doing."""

from __future__ import annotations

from typing import Any

import msgspec


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """``done`` of ``total``, in whatever unit the text speaks of; None: not known."""

    text: str
    done: float | int | None = None
    total: float | int | None = None


def encode(progress: Progress) -> str:
    return msgspec.json.encode(progress).decode()


def decode(data: str | None) -> dict[str, Any] | None:
    """As plain values."""
    return msgspec.structs.asdict(msgspec.json.decode(data, type=Progress)) if data else None
