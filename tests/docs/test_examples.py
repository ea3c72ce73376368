"""What the pages show is what happens: their modules are loaded, and their sessions typed, beside a real worker."""

from __future__ import annotations

import doctest
import inspect
import sys
import unittest
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_durable import durable
from django_durable.testing.environments import Environment
from django_durable.testing.plugin import durable_env
from example_project.shop.models import Order
from tests.docs import pages, project
from tests.docs.conftest import PATIENCE

__all__ = ["durable_env"]

SHOWN = [page for page in pages.all_pages() if pages.blocks(page, "pycon")]
MUST_SHOW = {"activities", "concepts", "continue-as-new", "payloads", "quickstart", "schedules", "services", "time"}
MUST_SHOW |= {"attributes", "batches", "callbacks", "children", "heartbeats", "messages", "versioning", "workflows"}
MUST_SHOW |= {"coming-from", "executors", "operations", "propagation", "queues", "retention", "sagas", "tasks", "views"}
MUST_SHOW |= {"serverless"}


@pytest.mark.parametrize("page", SHOWN, ids=pages.label)
def test_the_sessions_of_a_page_give_what_it_says(page: Path, monkeypatch, start_worker):
    project.load(page, monkeypatch)
    start_worker()
    session = "\n".join(block.padded[len(before) :] for before, block in _following(page))
    test = doctest.DocTestParser().get_doctest(session, {"__name__": "__main__"}, page.stem, str(page), 0)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    result = runner.run(test, out=report.append)
    assert result.attempted > 0
    assert result.failed == 0, "".join(report)


def _following(page: Path) -> list[tuple[str, pages.Block]]:
    """Each block with the blank lines that are before it already: one session, with the line numbers of the page."""
    found, line = [], 1
    for block in pages.blocks(page, "pycon"):
        found.append(("\n" * (line - 1), block))
        line = block.line + block.text.count("\n") + 1
    return found


def test_every_page_about_code_has_a_session():
    assert {page.stem for page in SHOWN} >= MUST_SHOW


def test_the_example_of_the_readme_works(monkeypatch, rf, start_worker):
    project.load(pages.ROOT / "README.md", monkeypatch)
    start_worker()
    request = rf.post("/")
    request.user = User(username="ada")
    answer = sys.modules["shop.views"].checkout(request)
    assert answer.status_code == 202
    order = Order.objects.get(customer="ada")
    receipt = durable.get_workflow(f"order-{order.pk}").result(timeout=PATIENCE)
    assert [payment.receipt for payment in order.payments.all()] == [receipt]


@pytest.mark.usefixtures("transactional_db")
def test_the_unit_tests_that_users_are_shown_pass(monkeypatch):
    page = pages.DOCS / "workflows.md"
    project.load(page, monkeypatch)
    (block,) = [block for block in pages.blocks(page, "python") if block.module == "tests"]
    shown: dict[str, Any] = {"__name__": "shop.tests"}
    exec(compile(block.padded, pages.label(page), "exec", dont_inherit=True), shown)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(shown["ShippingTest"]).run(result)
    assert result.testsRun == 2
    assert result.wasSuccessful(), [*result.errors, *result.failures]


def _shown(page: Path, name: str) -> dict[str, Any]:
    """What the module ``name`` of the page defines."""
    (block,) = [block for block in pages.blocks(page, "python") if block.module == name]
    shown: dict[str, Any] = {"__name__": name}
    exec(compile(block.padded, pages.label(page), "exec", dont_inherit=True), shown)
    return shown


@pytest.mark.django_db
def test_the_tests_with_an_environment_that_users_are_shown_pass(monkeypatch):
    page = pages.DOCS / "testing.md"
    project.load(page, monkeypatch)
    shown = _shown(page, "shop.tests")
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(shown["CollectTest"]).run(result)
    assert result.testsRun == 3
    assert result.wasSuccessful(), [*result.errors, *result.failures]


@pytest.mark.parametrize("module", ["shop.test_collect", "shop.test_golden"])
def test_the_tests_with_pytest_that_users_are_shown_pass(monkeypatch, module, durable_env, tmp_path):
    page = pages.DOCS / "testing.md"
    project.load(page, monkeypatch)
    fixtures = {"durable_env": durable_env, "tmp_path": tmp_path}
    tests = [value for name, value in _shown(page, module).items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test(**{name: fixtures[name] for name in inspect.signature(test).parameters})


def test_everything_that_an_environment_does_is_listed():
    methods = {name for name in vars(Environment) if not name.startswith("_")}
    twins = {name for name in methods if name.startswith("a") and name[1:] in methods}
    listed = {row[0].partition("(")[0] for row in pages.rows(pages.DOCS / "testing.md", under="## In a TestCase")}
    assert listed == methods - twins - {"work_for", "let_go", "turn_back"}
