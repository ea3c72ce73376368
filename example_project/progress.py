"""A progress bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

BAR_WIDTH = 40
LINE_EVERY_PERCENT = 10


class Progress:
    """Draws how far something is. ``say`` prints a line above the bar."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._began = time.monotonic()
        self._next_percent = 0

    def draw(self, fraction: float, text: str) -> None:
        """Show ``fraction`` (0 to 1) and ``text``."""
        if self._terminal:
            bar = "█" * round(BAR_WIDTH * fraction)
            self._write(f"\r\x1b[K  {bar:░<{BAR_WIDTH}} {fraction:4.0%}  {text}")
        elif fraction * 100 >= self._next_percent:
            self._write(f"  {self._seconds()}  {fraction:4.0%}  {text}\n")
            self._next_percent = int(fraction * 100 // LINE_EVERY_PERCENT + 1) * LINE_EVERY_PERCENT

    def say(self, text: str) -> None:
        self._write(f"{self._clear()}  {self._seconds()}  {text}\n")

    def finish(self) -> None:
        """Take the bar away."""
        self._write(self._clear())

    def _clear(self) -> str:
        return "\r\x1b[K" if self._terminal else ""

    def _seconds(self) -> str:
        return f"{time.monotonic() - self._began:5.1f} s"

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
