"""The quickstart's views, through HTTP, and its settings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from django_durable import conf
from example_project import database
from example_project.shop.models import Order
from tests.docs import pages, project
from tests.docs.conftest import PATIENCE

PAGE = pages.DOCS / "quickstart.md"


@pytest.fixture
def shop(monkeypatch, settings, start_worker) -> None:
    project.load(PAGE, monkeypatch)
    settings.ROOT_URLCONF = "shop.urls"
    start_worker()


def logged_in(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.create_user(name))
    return client


def poll(client: Client, url: str) -> dict[str, Any]:
    """Ask as a customer's browser would, until the workflow has ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status: dict[str, Any] = client.get(url).json()
        if status["status"] not in ("pending", "running"):
            return status
        time.sleep(0.1)
    raise AssertionError("the order was not processed")


def test_an_order_is_accepted_at_once_and_carried_to_its_end(shop):
    ada = logged_in("ada")
    answer = ada.post("/checkout/")
    assert answer.status_code == 202
    pk = answer.json()["order"]
    assert answer.json()["workflow_id"] == f"order-{pk}"
    status = poll(ada, f"/orders/{pk}/")
    assert (status["status"], set(status["result"])) == ("completed", {"receipt"})
    assert Order.objects.get(pk=pk).payments.count() == 1


def test_nobody_sees_another_customers_order(shop):
    pk = logged_in("ada").post("/checkout/").json()["order"]
    assert logged_in("eve").get(f"/orders/{pk}/").status_code == 404


@pytest.mark.parametrize("name", ["settings", "settings_sqlite", "settings_development"])
def test_the_settings_are_those_that_the_checks_ask_for(name):
    (block,) = [block for block in pages.blocks(PAGE, "python") if block.module == name]
    found: dict[str, Any] = {"BASE_DIR": Path("/")}
    exec(block.text, found)
    assert "django_durable" in found.get("INSTALLED_APPS", ["django_durable"])
    assert found.get("DATABASES", {"default": database.from_url("sqlite:////db.sqlite3")})["default"]["OPTIONS"] == (
        database.SQLITE_OPTIONS
    )
    assert set(found.get("DURABLE", {})) <= conf.NAMES
