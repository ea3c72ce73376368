"""Waiting for something outside this process, never for ever, with a line of progress now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

STEP = 0.05
TELL_SECONDS = 5.0


class GaveUp(AssertionError):
    """What was waited for has not come."""


def until(
    condition: Callable[[], T | None],
    what: str,
    *,
    seconds: float,
    tell: Callable[[], str] | None = None,
    step: float = STEP,
) -> T:
    """Wait until ``condition()`` is true and return its value. ``tell`` describes how far things are."""
    deadline, next_word = time.monotonic() + seconds, time.monotonic() + TELL_SECONDS
    while True:
        value = condition()
        if value:
            return value
        now = time.monotonic()
        if now > deadline:
            raise GaveUp(f"Waited {seconds:.0f} s in vain for {what}" + (f": {tell()}" if tell else "."))
        if tell is not None and now > next_word:
            say(f"waiting for {what}: {tell()}")
            next_word = now + TELL_SECONDS
        time.sleep(step)


def say(text: str) -> None:
    """One line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
