"""``durable_worker --reload``: code that changes while the worker runs is the code that runs from then on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from django_durable import durable
from tests.e2e.harness import waiting
from tests.e2e.harness.stage import staged
from tests.flows import computing

pytestmark = [pytest.mark.e2e, pytest.mark.sqlite, pytest.mark.timeout(240)]

PATIENCE = 90.0
SETTINGS = "from tests.settings import *\nINSTALLED_APPS = [*INSTALLED_APPS, 'reloaded']\n"
CODE = "from django_durable import durable\n\n\n@durable.activity\ndef tell() -> str:\n    return {text!r}\n"


def _tell() -> str:
    told: str = durable.start_workflow(computing.computes, "reloaded.tell", []).result(timeout=PATIENCE)
    return told


def test_a_change_of_code_is_loaded_an_error_in_it_is_outlived_and_a_signal_ends_it(
    fresh_url: str, tmp_path: Path
) -> None:
    (tmp_path / "reloaded").mkdir()
    (tmp_path / "reloaded" / "__init__.py").touch()
    code = tmp_path / "reloaded" / "activities.py"
    code.write_text(CODE.format(text="old"))
    (tmp_path / "reloading_settings.py").write_text(SETTINGS)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {"DJANGO_SETTINGS_MODULE": "reloading_settings", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}

    with staged(fresh_url, concurrency=2, settings={}, environment=environment) as stage:
        worker = stage.fleet.start("--reload")
        assert _tell() == "old"

        def save_an_error() -> bool:  # more than once: files are not watched before the first look at them
            code.write_text("this is no Python")
            return "it starts again when a file has changed" in worker.log.read_text()

        waiting.until(save_an_error, "the error to be told", seconds=PATIENCE, step=1.0)
        code.write_text(CODE.format(text="new"))
        assert _tell() == "new"

        worker.terminate()
        assert worker.wait(PATIENCE) == 0
