"""Pages hold together: their code compiles and their links lead somewhere."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs import pages

PARSERS: dict[str, Callable[[str], object]] = {"python": ast.parse, "json": json.loads, "toml": tomllib.loads}
CODE = [block for page in pages.all_pages() for block in pages.blocks(page, *PARSERS)]
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("block", CODE, ids=lambda block: f"{pages.label(block.page)}:{block.line}")
def test_code_can_be_read(block: pages.Block):
    PARSERS[block.language](block.text)


@pytest.mark.parametrize("page", pages.all_pages(), ids=pages.label)
def test_links_lead_to_a_file_and_a_heading(page: Path):
    for link in LINK.findall(pages.prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in _anchors(target), f"{link}: there is no such heading"


def _anchors(page: Path) -> set[str]:
    """The names that headings get: lower case, punctuation dropped, spaces as hyphens."""
    headings = re.findall(r"^#+ (.+)$", pages.prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_of_the_docs_is_on_the_map():
    index = pages.DOCS / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(pages.prose(index))}
    decisions = {page for page in pages.DOCS.glob("decisions/*.md") if page.name != "index.md"}
    assert set(pages.DOCS.rglob("*.md")) - linked - decisions - {index} == set()


def test_every_decision_is_listed():
    index = pages.DOCS / "decisions" / "index.md"
    linked = {(index.parent / link).resolve() for link in LINK.findall(pages.prose(index))}
    assert set(index.parent.glob("[0-9]*.md")) - linked == set()
