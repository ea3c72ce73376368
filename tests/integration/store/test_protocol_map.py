"""The map of rules names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
MAP = TESTS.parent / "docs" / "protocol-map.md"
DIRECTORIES = {
    "store": TESTS / "integration" / "store",
    "worker": TESTS / "integration" / "worker",
    "client": TESTS / "integration" / "client",
    "unit": TESTS / "unit",
    "e2e": TESTS / "e2e",
}


def test_every_test_that_the_map_names_exists() -> None:
    named = re.findall(r"`(\w+)/([\w/]+\.py)(?:::(\w+))?`", MAP.read_text())
    assert len(named) > 100

    missing = [
        f"{directory}/{file}::{test}"
        for directory, file, test in named
        if not _has(DIRECTORIES[directory] / file, test)
    ]

    assert missing == []


def _has(file: Path, test: str) -> bool:
    return file.exists() and (not test or bool(re.search(rf"def {test}\(", file.read_text())))
