"""Stored values as text for people: indented, and never more of it than a page can bear.

Values are formatted as text, not decoded and encoded again, so that numbers and the order of keys stay as stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import msgspec

from django_durable.exceptions import PayloadUnreadable
from django_durable.payloads import payload
from django_durable.payloads.payload import Payload

LIMIT = 50_000  # characters of one value that a page shows
LONG = 400  # characters from which on a value is folded away
LONG_LINES = 8
ONE_LINE = 80  # characters up to which a value stays on one line
DEEP = 40  # levels

_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}  # brackets in strings count too: no harm is done


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """What a page shows of a value. ``size`` is the length of all of it, in characters."""

    text: str
    size: int

    @property
    def is_long(self) -> bool:
        return len(self.text) > LONG or self.text.count("\n") >= LONG_LINES

    @property
    def is_cut(self) -> bool:
        return self.size > len(self.text)


def of_text(text: str, *, size: int | None = None) -> Excerpt:
    """``text`` as it is. ``size``: the length of what it is the beginning of."""
    return Excerpt(text=text[:LIMIT], size=len(text) if size is None else size)


def of_json(text: str) -> Excerpt:
    """JSON, indented unless it is short; what is damaged, or nested so deeply that indents outgrow it, as it is."""
    if len(text) > LIMIT or _is_deep(text):
        return of_text(text)
    try:
        return of_text(msgspec.json.format(text, indent=2 if len(text) > ONE_LINE else 0))
    except (msgspec.MsgspecError, RecursionError):
        return of_text(text)


def _is_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= DEEP:
        return False
    return max(accumulate(_STEPS.get(character, 0) for character in text)) > DEEP


def of_payload(value: Payload) -> Excerpt:
    """A payload: its JSON; of what cannot be read here its format and size."""
    try:
        value = payload.opened(value, what="This value")
    except PayloadUnreadable:
        return of_text(f"<{value.size} bytes, {value.format}>")
    return of_json(bytes(value.data).decode("utf-8", "replace"))


def of_column(stored: str | None) -> Excerpt | None:
    """A payload that has a column of its own; a damaged one as it is, None for none."""
    if stored is None:
        return None
    try:
        return of_payload(payload.load(stored))
    except (msgspec.MsgspecError, RecursionError):
        return of_text(stored)
