"""What a run shows of itself to people and searches: its attributes and its progress.

None of it is part of the history: what the code sets is written with the drain that set it, and a replay sets it again
without writing anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from django_durable.definitions import attributes
from django_durable.engine.loop import DeterministicLoop
from django_durable.engine.recorder import Recorder
from django_durable.exceptions import DefinitionError
from django_durable.history.progress import Progress

TEXT_LIMIT = 1_000  # characters of a progress


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What one drain has changed: attributes, None for those that are removed, and the latest progress."""

    attributes: dict[str, Any]
    progress: Progress | None = None


class Showing:
    """The attributes that the run has, and what the drain under way has changed."""

    __slots__ = ("_changed", "_loop", "_progress", "_recorder", "_values")

    def __init__(self, loop: DeterministicLoop, recorder: Recorder, given: Mapping[str, Any] | None) -> None:
        """``given``: the JSON forms of the attributes that the run has from its start."""
        self._loop = loop
        self._recorder = recorder
        self._values: dict[str, Any] = attributes.decode_all(given) if given else {}
        self._changed: dict[str, Any] = {}
        self._progress: Progress | None = None

    @property
    def values(self) -> Mapping[str, Any]:
        return MappingProxyType(self._values)

    def set_attributes(self, given: Mapping[str, Any]) -> None:
        """Raises ``DefinitionError`` or ``PayloadError`` for what cannot be an attribute; then nothing is set."""
        self._begin()
        changed = attributes.checked(given, owner="ctx.set_attributes()")
        values = {key: value for key, value in (self._values | changed).items() if value is not None}
        if len(values) > attributes.COUNT_LIMIT:
            raise DefinitionError(
                f"A run has at most {attributes.COUNT_LIMIT} attributes. They are for finding it: keep its data "
                f"in its input, its result or a table of yours."
            )
        self._values = values
        if not self._recorder.replaying:
            self._changed |= changed

    def set_progress(self, text: Any, done: float | None, total: float | None) -> None:
        self._begin()
        if text is None or isinstance(text, int | float):
            raise TypeError(f"ctx.set_progress() takes words first, as in ('packing', done=3, total=9), not {text!r}.")
        for name, number in (("done", done), ("total", total)):
            if number is not None and not _is_number(number):
                raise TypeError(f"ctx.set_progress(): {name} must be a number or None, not {number!r}.")
        if self._recorder.replaying:
            return
        self._progress = Progress(text=_clean(str(text)), done=done, total=total)

    def take(self) -> Shown | None:
        """What has changed since it was last asked; None if nothing has, which is nearly always so."""
        if self._progress is None and not self._changed:
            return None
        shown = Shown(attributes=self._changed, progress=self._progress)
        self._changed, self._progress = {}, None
        return shown

    def _begin(self) -> None:
        self._loop.gate()
        self._recorder.check()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _clean(text: str) -> str:
    """Text that every database can hold."""
    clean = text.replace("\x00", "").encode("utf-8", "replace").decode()
    return clean if len(clean) <= TEXT_LIMIT else clean[: TEXT_LIMIT - 1] + "…"
