"""The map of rules names tests that exist, for every rule."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
MAP = TESTS.parent / "docs" / "protocol-map.md"
DIRECTORIES = {
    "store": TESTS / "integration" / "store",
    "worker": TESTS / "integration" / "worker",
    "client": TESTS / "integration" / "client",
    "testing": TESTS / "integration" / "testing",
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


def test_every_rule_names_a_test_or_the_feature_that_it_waits_for() -> None:
    rows = [line for line in MAP.read_text().splitlines() if line.startswith("| ") and not line.endswith("| tests |")]
    assert len(rows) > 90

    assert [row for row in rows if "::test_" not in row and " due with " not in row and "all of `" not in row] == []
    assert "TODO" not in MAP.read_text()


def _has(file: Path, test: str) -> bool:
    return file.exists() and (not test or bool(re.search(rf"def {test}\(", file.read_text())))
