"""The built wheel in an empty environment: nothing of the source tree may be missing from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

BASE_DIR = Path(__file__).resolve().parents[2]
PACKAGE = BASE_DIR / "django_durable"

WORKFLOWS = """
    from django_durable import Context, durable

    @durable.activity
    def double(number: int) -> int:
        return 2 * number

    @durable.workflow
    async def twice_doubled(ctx: Context, number: int) -> int:
        return await ctx.activity(double, await ctx.activity(double, number))
"""
START = """
    from django_durable import durable
    from letters.workflows import twice_doubled

    durable.start_workflow(twice_doubled.using(workflow_id="first"), 21)
"""
SHOW = """
    import json
    from django_durable import durable

    status = durable.get_workflow_status("first")
    print(json.dumps({"status": str(status.status), "result": status.result}))
"""
SETTINGS = """
    INSTALLED_APPS += ["django_durable", "letters"]
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL;",
    }
"""

pytestmark = [pytest.mark.wheel, pytest.mark.slow]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", directory, BASE_DIR, cwd=directory)
    (built,) = directory.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    source = {
        str(path.relative_to(BASE_DIR))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert source <= names
    assert "django_durable/py.typed" in names
    assert "django_durable/migrations/0001_initial.py" in names
    assert any(name.startswith("django_durable/templates/") for name in names)


def test_the_wheel_brings_its_pytest_plugin(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (declared,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert "[pytest11]\ndurable = django_durable.testing.plugin" in archive.read(declared).decode()


def test_the_wheel_holds_nothing_but_the_package(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"django_durable"}


def test_a_project_with_only_the_wheel_installed_runs_a_workflow(wheel: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    project = tmp_path / "project"
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    make_project(python, project)

    run(python, "manage.py", "migrate", "--verbosity", "0", cwd=project)
    run(python, "manage.py", "shell", "-c", textwrap.dedent(START), cwd=project)
    run(python, "manage.py", "durable_worker", "--burst", cwd=project)
    shown = run(python, "manage.py", "shell", "-c", textwrap.dedent(SHOW), cwd=project)

    assert json.loads(shown.splitlines()[-1]) == {"status": "completed", "result": 84}


def make_project(python: Path, project: Path) -> None:
    """A Django project as ``startproject`` makes it, with one app of ours."""
    project.mkdir()
    run(python, "-m", "django", "startproject", "post", project, cwd=project)
    run(python, "manage.py", "startapp", "letters", cwd=project)
    with (project / "post" / "settings.py").open("a") as settings:
        settings.write(textwrap.dedent(SETTINGS))
    (project / "letters" / "workflows.py").write_text(textwrap.dedent(WORKFLOWS))


def run(*arguments: str | Path, cwd: Path) -> str:
    """Run a command outside the source tree and return what it printed."""
    clean = {name: value for name, value in os.environ.items() if name not in ("DJANGO_SETTINGS_MODULE", "PYTHONPATH")}
    ended = subprocess.run([str(part) for part in arguments], cwd=cwd, env=clean, capture_output=True, text=True)
    assert ended.returncode == 0, f"{arguments} failed:\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout
