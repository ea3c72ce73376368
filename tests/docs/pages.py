"""The pages of the documentation, and the fenced blocks in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(\w*)[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w/]+)\.py\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block. ``line`` is the number of its first line of text in the page, from 1."""

    page: Path
    language: str
    text: str
    line: int

    @property
    def module(self) -> str | None:
        """``shop.activities`` if the block begins with the comment ``# shop/activities.py``."""
        named = _FILE.match(self.text)
        return named.group(1).replace("/", ".") if named else None

    @property
    def padded(self) -> str:
        """The text with its line numbers of the page, so that errors point there."""
        return "\n" * (self.line - 1) + self.text


def all_pages() -> list[Path]:
    """Every page that people read, README first."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def label(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of ``page`` in these languages, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            language=found.group(1),
            text=found.group(2),
            line=text.count("\n", 0, found.start()) + 2,
        )
        for found in _FENCE.finditer(text)
        if found.group(1) in languages
    ]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def rows(page: Path, *, under: str) -> list[list[str]]:
    """The cells of the first table that follows the heading ``under``, its head left out; ticks are taken off."""
    text = "\n" + page.read_text(encoding="utf-8")
    _, found, after = text.partition(f"\n{under}\n")
    assert found, f"{label(page)} has no heading {under!r}"
    table = re.search(r"(?:^\|.*\|\n)+", after, re.MULTILINE)
    assert table, f"{label(page)} has no table under {under!r}"
    lines = table.group().splitlines()[2:]
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
