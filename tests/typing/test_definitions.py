"""What type checkers say about declarations and calls: right ones pass, wrong ones give the expected error."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASE = Path(__file__).with_name("definitions.case")  # no .py: it is full of errors on purpose
EXPECTED = re.compile(r"# E: (.*)$")
FOUND = re.compile(r"^[^:]+:(\d+): error: (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """What mypy says about the file, by line."""
    pytest.importorskip("mypy")
    directory = tmp_path_factory.mktemp("typing")
    source = directory / "case_definitions.py"
    source.write_text(CASE.read_text())
    options = ["--strict", "--follow-imports=silent", "--no-error-summary", "--no-pretty", "--hide-error-context"]
    cache = ["--config-file=", f"--cache-dir={ROOT / '.mypy_cache' / 'typing'}"]
    command = [sys.executable, "-m", "mypy", *options, *cache, source.name]
    done = subprocess.run(
        command,
        cwd=directory,
        env={"MYPYPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[int, str] = {}
    for line, message in FOUND.findall(done.stdout):
        found[int(line)] = f"{found.get(int(line), '')} {message}".strip()
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_wrong_lines_give_their_errors_and_right_ones_none(errors: dict[int, str]) -> None:
    expected = {
        number: match.group(1)
        for number, line in enumerate(CASE.read_text().splitlines(), start=1)
        if (match := EXPECTED.search(line))
    }
    assert expected
    unexpected = {number: message for number, message in errors.items() if number not in expected}
    missing = {number: text for number, text in expected.items() if text not in errors.get(number, "")}
    assert (unexpected, {number: (text, errors.get(number)) for number, text in missing.items()}) == ({}, {})
