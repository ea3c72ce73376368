"""How often a worker looks at the database: at once while there is work, ever more rarely while there is none."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

SHORTEST = 0.01  # seconds between two looks while there is work, if nobody tells of more
SHORTEST_SHARE = 1 / 60  # of the longest pause: where hints are heard, a look in between only delays results
MESSAGES_PATIENCE = 0.25  # seconds that the search through all inboxes may be put off while there is other work
PAUSED_SECONDS = 0.8  # between two looks at which workflows are paused
MESSAGES_BACKOFF = 20  # the inbox is searched at most this many times its own duration apart


class Pace:
    """Decides when the next look is due. ``time.monotonic()`` seconds throughout."""

    def __init__(self, longest: Callable[[], float]) -> None:
        self._longest = longest
        self._pause = 0.0  # after the last look that found nothing; 0: there is work
        self._next = 0.0
        self._messages = 0.0
        self._paused = 0.0
        self._searched = 0.0
        self._hints = 0
        self._began = 0.0, 0

    def is_due(self) -> bool:
        return time.monotonic() >= self._next

    def wants_messages(self) -> bool:
        """Whether the search through all inboxes has paid for its last duration; a hint is followed up first."""
        now = time.monotonic()
        return now >= self._messages and (not self.expects_work() or now - self._searched >= MESSAGES_PATIENCE)

    def wants_paused(self) -> bool:
        """Whether to read anew which workflows are paused."""
        return time.monotonic() >= self._paused

    def until_next(self) -> float:
        return max(0.0, self._next - time.monotonic())

    def hurry(self) -> None:
        """Somebody said that there is something: look now, or again at once if a look is under way."""
        self._hints += 1
        self._pause = 0.0
        self._next = 0.0

    def expects_work(self) -> bool:
        """Whether somebody said that there is something, or the last look found something."""
        return self._pause == 0.0

    def begin(self) -> None:
        """A look begins."""
        self._began = time.monotonic(), self._hints

    def looked(self, *, found: bool, searched: bool, until_due: float | None, read_paused: bool = False) -> None:
        """The look is over. ``searched``: all inboxes too; ``until_due``: seconds until the next sleeper wakes up."""
        now, (began, hints) = time.monotonic(), self._began
        if read_paused:
            self._paused = began + PAUSED_SECONDS
        if searched:
            self._searched = now
            self._messages = now + (now - began) * MESSAGES_BACKOFF
        longest = self._longest()
        shortest = max(SHORTEST, longest * SHORTEST_SHARE)
        if found:
            self._pause = 0.0
            self._next = now + shortest
        else:
            self._pause = min(max(self._pause * 2, shortest), longest)
            self._next = now + self._pause * random.uniform(0.9, 1.1)
        if self._hints != hints:
            self._pause, self._next = 0.0, 0.0
        elif until_due is not None:
            self._next = min(self._next, now + max(until_due, 0.0))


class NoPause(Pace):
    """For an engine that somebody drives by hand: every look is due, and searches everything."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)

    def is_due(self) -> bool:
        return True

    def wants_messages(self) -> bool:
        return True

    def wants_paused(self) -> bool:
        return True

    def expects_work(self) -> bool:
        return False
