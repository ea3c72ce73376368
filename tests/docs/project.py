"""The project that the pages talk about: an app ``shop`` whose modules are the blocks of one page.

A block that begins with ``# shop/activities.py`` is (a part of) the module ``shop.activities``. The models and the
payment gateway, which the pages take for granted, are those of the example project.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from django_durable.definitions.registry import registry
from tests.docs import pages

GIVEN = ("models", "gateway")


def load(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the modules of ``page`` importable, with nothing else of a project registered, until the test ends."""
    for kind in ("_workflows", "_activities"):
        monkeypatch.setattr(registry, kind, _own(getattr(registry, kind)))
    monkeypatch.setattr(registry, "_current", {one.name: key for key, one in registry._workflows.items()})
    monkeypatch.setattr(registry, "_schedules", {})
    shop = types.ModuleType("shop")
    shop.__path__ = []
    monkeypatch.setitem(sys.modules, "shop", shop)
    for name in GIVEN:
        _add(shop, name, importlib.import_module(f"example_project.shop.{name}"), monkeypatch)
    for block in pages.blocks(page, "python"):
        package, _, name = (block.module or "").partition(".")
        if package == "shop":
            module = sys.modules.get(f"shop.{name}") or types.ModuleType(f"shop.{name}")
            _add(shop, name, module, monkeypatch)
            exec(compile(block.padded, pages.label(page), "exec", dont_inherit=True), vars(module))


def _own(definitions: dict[str, Any]) -> dict[str, Any]:
    """Those of the library itself."""
    return {key: one for key, one in definitions.items() if one.__module__.startswith("django_durable.")}


def _add(shop: types.ModuleType, name: str, module: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, f"shop.{name}", module)
    setattr(shop, name, module)
