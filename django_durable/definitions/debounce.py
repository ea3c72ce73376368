"""Starts that come in bursts, of which only the last is to count."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from datetime import timedelta

from django_durable.definitions import options as checks
from django_durable.exceptions import DefinitionError


@dataclass(frozen=True, slots=True)
class Debounce:
    """One run for all starts of a workflow with this ``key`` that come while it waits: with the last one's arguments.

    It begins when ``wait`` has passed without another start, at the latest ``max_wait`` after the first; None: whenever
    that is. Raises ``DefinitionError`` for what could not work.
    """

    key: str
    _: KW_ONLY
    wait: timedelta
    max_wait: timedelta | None = None

    def __post_init__(self) -> None:
        checks.check_text(self.key, what="The key of a Debounce")
        checks.check_duration(self.wait, name="wait", owner="Debounce")
        if self.max_wait is not None:
            checks.check_duration(self.max_wait, name="max_wait", owner="Debounce")
            if self.max_wait < self.wait:
                raise DefinitionError(
                    f"Debounce: max_wait, {self.max_wait}, must not be shorter than wait, {self.wait}."
                )
