"""The transcript of the page about the HTTP API is what curl gives against a real server beside a real worker."""

from __future__ import annotations

import doctest
import subprocess
from typing import Any

from tests.docs import pages, project

PAGE = pages.DOCS / "http-api.md"
SHOWN = "http://localhost:8000"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_the_transcript_of_the_page_is_what_curl_gives(monkeypatch, start_worker, settings, live_server):
    project.load(PAGE, monkeypatch)
    settings.ROOT_URLCONF = "shop.urls"
    settings.DURABLE = {**settings.DURABLE, **_settings()["DURABLE"]}
    start_worker()
    (transcript,) = pages.blocks(PAGE, "console")
    commands, expected = _split(transcript.text)
    # One shell, as a reader has: what it exports stays. A line of its own parts the answers.
    script = "\n".join(f"{command}\nprintf '\\n\\1\\n'" for command in commands).replace(SHOWN, live_server.url)
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    given = ran.stdout.split("\n\1\n")[:-1]
    assert len(given) == len(expected), ran.stderr
    checker = doctest.OutputChecker()
    for command, want, got in zip(commands, expected, given, strict=True):
        assert checker.check_output(want, got, FLAGS), f"$ {command}\nThe page says:\n{want}\nIt gives:\n{got}"


def _split(text: str) -> tuple[list[str], list[str]]:
    """The commands, and what stands below each."""
    commands: list[str] = []
    answers: list[str] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            commands.append(line[2:])
            answers.append("")
        else:
            answers[-1] += f"{line}\n"
    return commands, answers


def _settings() -> dict[str, Any]:
    """What the page puts into the settings."""
    (block,) = [block for block in pages.blocks(PAGE, "python") if block.module == "settings"]
    shown: dict[str, Any] = {}
    exec(block.text, shown)
    return shown
