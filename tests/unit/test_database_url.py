from __future__ import annotations

import pytest

from example_project import database


def test_a_postgres_url_becomes_a_database_entry():
    entry = database.from_url("postgres://shop:s%40fe@db.example:6432/orders?sslmode=require")

    assert entry == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "orders",
        "USER": "shop",
        "PASSWORD": "s@fe",
        "HOST": "db.example",
        "PORT": "6432",
        "OPTIONS": {"sslmode": "require"},
    }


def test_parts_that_a_postgres_url_leaves_out_are_left_to_the_driver():
    entry = database.from_url("postgresql:///orders")

    assert (entry["NAME"], entry["USER"], entry["HOST"], entry["PORT"]) == ("orders", "", "", "")


def test_an_sqlite_url_comes_with_the_options_that_durability_asks_for():
    entry = database.from_url("sqlite:////srv/shop.sqlite3")

    assert entry["NAME"] == "/srv/shop.sqlite3"
    assert entry["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in entry["OPTIONS"]["init_command"]


def test_the_url_of_an_sqlite_file_leads_back_to_it():
    path = "/srv/a shop/50%/orders?.sqlite3"

    assert database.from_url(database.sqlite_url(path))["NAME"] == path


@pytest.mark.parametrize("url", ["oracle://localhost/orders", "postgres://localhost", "sqlite:", "orders"])
def test_a_url_that_names_no_known_database_is_refused(url):
    with pytest.raises(ValueError, match="database"):
        database.from_url(url)
