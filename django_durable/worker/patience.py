"""Growing pauses while the database answers and takes nothing: it only reads, its disk is full, it shuts down."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

FIRST_REST = 0.05  # seconds; doubled each time, with jitter
LONGEST_REST = 2.0
STEP = 0.05


class Patience:
    """Between two tries of the same thing: ``rest``. Once it has worked: ``renew``."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self._next = FIRST_REST

    def rest(self) -> None:
        """Pause, each time for longer, or until ``stopped()``, which is asked all the time."""
        until = time.monotonic() + self._next * random.uniform(0.9, 1.1)
        self._next = min(self._next * 2, LONGEST_REST)
        while time.monotonic() < until and not self._stopped():
            time.sleep(STEP)

    def renew(self) -> None:
        self._next = FIRST_REST
