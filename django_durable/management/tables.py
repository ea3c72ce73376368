"""Tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from django.core.management.base import OutputWrapper


def write(out: OutputWrapper, head: Sequence[str], rows: Sequence[Sequence[object]], *, nothing: str) -> None:
    """Columns as wide as they need to be, or the sentence ``nothing`` if there are no rows."""
    if not rows:
        out.write(nothing)
        return
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        out.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
