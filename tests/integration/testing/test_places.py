"""Where an environment works besides tests of this suite: under pytest's plugin, and in a script."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

BASE_DIR = Path(__file__).resolve().parents[3]
PLUGIN = "django_durable.testing.plugin"

INI = "[pytest]\nDJANGO_SETTINGS_MODULE = tests.settings\naddopts = -p no:cloudcoil -p no:schemathesis\n"
TESTS = """
    import pytest
    from django.db import connection
    from tests.flows import workflows

    def test_in_a_transaction(durable_env):
        assert connection.in_atomic_block
        assert durable_env.start(workflows.nap, 86_400).result() == "rested"

    @pytest.mark.django_db(transaction=True)
    def test_without_one(durable_env):
        assert not connection.in_atomic_block
        assert durable_env.start(workflows.nap, 86_400).result() == "rested"
"""
SCRIPT = """
    import django
    django.setup()
    from django.core.management import call_command
    from django_durable.testing import environment
    from example_project.shop import workflows
    from example_project.shop.models import Order

    call_command("migrate", verbosity=0)
    order = Order.objects.create(customer="ada", item="lamp", cents=4_200)
    with environment() as env:
        handle = env.start(workflows.process_order, order.pk, order.cents)
        print(sorted(handle.result()), order.payments.count())
"""


def run(*arguments: str, cwd: Path, **variables: str) -> str:
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(BASE_DIR), **variables},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.sqlite
def test_the_plugin_gives_the_fixture(tmp_path):
    (tmp_path / "test_shop.py").write_text(textwrap.dedent(TESTS))
    (tmp_path / "pytest.ini").write_text(INI)
    installed = any(one.value == PLUGIN for one in importlib.metadata.entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", PLUGIN]
    said = run(
        "-m",
        "pytest",
        *plugin,
        "-q",
        "--rootdir",
        str(tmp_path),
        cwd=tmp_path,
        DURABLE_TEST_SUFFIX=f"_plugin{os.getpid()}",
    )
    assert "2 passed" in said


@pytest.mark.sqlite
def test_a_script_needs_no_test_runner(tmp_path):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    said = run(
        "script.py",
        cwd=tmp_path,
        DJANGO_SETTINGS_MODULE="example_project.settings",
        EXAMPLE_DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3",
    )
    assert said == "['invoice', 'parcel', 'receipt'] 1\n"
