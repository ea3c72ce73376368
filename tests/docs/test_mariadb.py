"""The page about MariaDB: the settings that it shows are right."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.utils import ConnectionHandler
from django.test import override_settings

from django_durable.checks import settings as setting_checks
from tests.docs import pages


def test_the_settings_that_are_shown_pass_the_checks(monkeypatch):
    pytest.importorskip("MySQLdb")
    [block] = [one for one in pages.blocks(pages.DOCS / "mariadb.md", "python") if "DATABASES" in one.text]
    shown: dict[str, Any] = {}
    exec(compile(block.padded, pages.label(block.page), "exec", dont_inherit=True), shown)
    monkeypatch.setattr(setting_checks, "connections", ConnectionHandler(shown["DATABASES"]))
    with override_settings(DURABLE=shown["DURABLE"]):
        assert [message for check in setting_checks.ALL for message in check(None)] == []
