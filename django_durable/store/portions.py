"""Rows in portions, each of which fits into one statement.

MariaDB takes none that is longer than ``max_allowed_packet``. Others would take longer ones, but gain nothing by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

PORTION = 1_000_000  # characters
ROW = 1_000  # characters of a row besides its long texts

_Row = TypeVar("_Row")


def portions(rows: Iterable[_Row], length: Callable[[_Row], int]) -> Iterator[list[_Row]]:
    """``rows`` in their order. ``length``: the characters of a row's long texts; a very long row stands alone."""
    portion: list[_Row] = []
    total = 0
    for row in rows:
        size = length(row) + ROW
        if portion and total + size > PORTION:
            yield portion
            portion, total = [], 0
        portion.append(row)
        total += size
    if portion:
        yield portion


def longest_statement(payload: int) -> int:
    """Bytes of the longest statement that is sent where payloads have so many at most.

    A character takes up to four bytes, and one that the driver has to escape takes two.
    """
    return max(4 * PORTION, 2 * payload) + 100 * ROW
