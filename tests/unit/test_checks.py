"""System checks: each wrong setting is found, named and explained; right ones are left alone."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from django.apps import apps
from django.core.checks import CheckMessage, registry, run_checks
from django.db.utils import ConnectionHandler
from django.test import override_settings

from django_durable import apps as durable_apps
from django_durable import checks, conf
from django_durable.checks import settings as setting_checks
from django_durable.definitions.registry import Registry
from django_durable.definitions.registry import registry as definitions
from django_durable.payloads import limits

SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": "shop.sqlite3",
    "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode = WAL;"},
}
POSTGRES: dict[str, Any] = {"ENGINE": "django.db.backends.postgresql", "NAME": "shop"}


@pytest.fixture
def databases(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the checks see other DATABASES than the tests run on. Nothing connects to them."""

    def use(default: dict[str, Any], **others: dict[str, Any]) -> None:
        monkeypatch.setattr(setting_checks, "connections", ConnectionHandler({"default": default, **others}))

    return use


def sqlite(**options: Any) -> dict[str, Any]:
    return {**SQLITE, "OPTIONS": {**SQLITE["OPTIONS"], **options}}  # type: ignore[dict-item]


def found(**settings: Any) -> list[CheckMessage]:
    with override_settings(DURABLE=settings):
        return [message for check in setting_checks.ALL for message in check(None)]


def ids(**settings: Any) -> list[str | None]:
    return [message.id for message in found(**settings)]


def test_the_settings_of_the_test_suite_are_right() -> None:
    assert run_checks(tags=[checks.TAG]) == []


def test_every_check_is_registered_once_under_the_tag() -> None:
    registered: list[Any] = [
        check for check in registry.registry.registered_checks if checks.TAG in getattr(check, "tags", ())
    ]
    assert sorted(check.__name__ for check in registered) == sorted(check.__name__ for check in checks.ALL)


def test_every_setting_has_its_expectation_and_its_default_meets_it() -> None:
    assert set(setting_checks.EXPECTED) == conf.NAMES
    for field in fields(conf.Settings):
        assert setting_checks.EXPECTED[field.name][1](field.default), field.name


def test_an_unknown_setting_is_found_and_a_near_one_suggested(databases: Any) -> None:
    databases(SQLITE)
    [message] = found(CONCURENCY=3)
    assert (message.id, message.hint) == ("durable.E001", "Did you mean 'CONCURRENCY'?")
    [message] = found(zzz=3)
    assert "LEASE_SECONDS" in str(message.hint)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("CONCURRENCY", 0),
        ("CONCURRENCY", "8"),
        ("CONCURRENCY", True),
        ("ASYNC_CONCURRENCY", 1.5),
        ("QUEUES", "default"),
        ("QUEUES", []),
        ("QUEUES", [""]),
        ("TRANSPORTS", "polling"),
        ("LEASE_SECONDS", 0),
        ("LEASE_SECONDS", float("nan")),
        ("INSTANCE_CACHE_SIZE", -1),
        ("LINGER_SECONDS", -0.1),
        ("POLL_SECONDS", 0),
        ("DRAIN_SECONDS", None),
        ("STUCK_SECONDS", 0),
        ("EMBEDDED_WORKER", "yes"),
        ("MAX_PAYLOAD_BYTES", 0),
        ("WARN_PAYLOAD_BYTES", None),
        ("MAX_INTERRUPTIONS", 0),
        ("CALLBACK_URL", "example.com"),
        ("CALLBACK_SECONDS", 0),
        ("CALLBACK_MAX_BYTES", 0),
    ],
)
def test_a_wrong_value_is_found_and_its_setting_named(databases: Any, name: str, wrong: Any) -> None:
    databases(SQLITE)
    [message] = found(**{name: wrong})
    assert message.id == "durable.E002"
    assert name in message.msg
    assert message.hint


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("INSTANCE_CACHE_SIZE", 0),
        ("LINGER_SECONDS", 0),
        ("POLL_SECONDS", None),
        ("POLL_SECONDS", 1),
        ("TRANSPORTS", ["polling"]),
        ("QUEUES", ("a", "b")),
        ("DRAIN_SECONDS", 0),
    ],
)
def test_a_right_value_is_left_alone(databases: Any, name: str, right: Any) -> None:
    databases(SQLITE)
    assert ids(**{name: right}) == []


def test_settings_that_are_no_dict_are_found() -> None:
    with override_settings(DURABLE="x"):
        [message] = setting_checks.check_values(None)
    assert message.id == "durable.E002"


@pytest.mark.parametrize("alias", ["durabel", None, ["default"]])
def test_a_database_that_does_not_exist_is_found_and_breaks_no_other_check(databases: Any, alias: Any) -> None:
    databases(SQLITE, other=POSTGRES)
    messages = {message.id: message for message in found(DATABASE=alias)}
    assert "'default', 'other'" in str(messages["durable.E003"].hint)


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"transaction_mode": None}, "transaction_mode"),
        ({"transaction_mode": "DEFERRED"}, "transaction_mode"),
        ({"init_command": None}, "journal_mode=WAL"),
        ({"init_command": "PRAGMA journal_mode=DELETE;"}, "journal_mode=WAL"),
        ({"timeout": 5}, '"timeout": 20'),
        ({"timeout": None}, '"timeout": 20'),
    ],
)
def test_an_sqlite_file_that_writers_cannot_share_is_found(databases: Any, options: Any, missing: str) -> None:
    databases(sqlite(**options))
    [message] = found()
    assert message.id == "durable.E004"
    assert str(message.hint).count('": ') == 1
    assert missing in str(message.hint)


def test_an_sqlite_file_that_is_set_up_is_left_alone(databases: Any) -> None:
    databases(sqlite(transaction_mode="immediate", timeout=60))
    assert ids() == []


def test_only_the_own_database_is_looked_at(databases: Any) -> None:
    databases(sqlite(timeout=5), durable=SQLITE)
    assert ids(DATABASE="durable") == []
    assert ids() == ["durable.E004"]


@pytest.mark.parametrize("name", [":memory:", "file:shop?mode=memory&cache=shared"])
def test_a_database_in_memory_has_no_journal_to_set_up(databases: Any, name: str) -> None:
    databases({"ENGINE": "django.db.backends.sqlite3", "NAME": name})
    assert ids() == []


@pytest.mark.parametrize(("version", "expected"), [("2.9.9 (dt dec pq3)", ["durable.E005"]), ("3.2.1", [])])
def test_psycopg_2_is_found(databases: Any, monkeypatch: pytest.MonkeyPatch, version: str, expected: list[str]) -> None:
    pytest.importorskip("psycopg")
    databases(POSTGRES)
    monkeypatch.setattr("django.db.backends.postgresql.base.Database.__version__", version)
    assert ids() == expected


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        (True, ["durable.W001"]),
        ({"min_size": 8}, ["durable.W001"]),
        ({"min_size": 2, "max_size": 31}, ["durable.W001"]),
        ({"max_size": 32}, []),
        (False, []),
        (None, []),
    ],
)
def test_a_pool_smaller_than_the_number_of_activity_threads_is_found(databases: Any, pool: Any, expected: Any) -> None:
    pytest.importorskip("psycopg")
    databases({**POSTGRES, "OPTIONS": {"pool": pool}})
    assert ids() == expected
    assert ids(CONCURRENCY=1) == []


def test_mysql_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setting_checks, "_vendor", lambda: "mysql")
    assert ids() == ["durable.W002"]


def test_the_other_distribution_of_this_name_is_found(databases: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    databases(SQLITE)
    asked: list[str] = []
    monkeypatch.setattr(importlib.metadata, "distribution", asked.append)
    [message] = found()
    assert (message.id, asked) == ("durable.W003", ["django-durable"])
    assert "pip uninstall django-durable" in str(message.hint)


def test_payload_limits_follow_the_settings() -> None:
    before = limits.current()
    with override_settings(DURABLE={"MAX_PAYLOAD_BYTES": 10, "WARN_PAYLOAD_BYTES": 5}):
        assert limits.current() == limits.Limits(max_bytes=10, warn_bytes=5)
    assert limits.current() == before == limits.Limits()


def test_the_limits_without_django_are_those_of_the_settings() -> None:
    settings = conf.Settings()
    assert settings.MAX_PAYLOAD_BYTES == limits.Limits().max_bytes
    assert settings.WARN_PAYLOAD_BYTES == limits.Limits().warn_bytes


def test_names_use_the_label_of_the_app_that_holds_the_module() -> None:
    assert apps.get_app_config("durable").name == "django_durable"
    assert durable_apps._label_of("django_durable.workflows") == "durable"
    assert durable_apps._label_of("nobody.workflows") is None
    assert definitions._label_of is durable_apps._label_of


class Archived:
    """A router that keeps one app's models in the archive."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "archive" if model._meta.app_label == "shop" else None


def test_models_that_a_router_sends_elsewhere_are_named_beside_the_atomic_activities(databases: Any) -> None:
    databases(SQLITE, archive=SQLITE)
    with override_settings(DATABASE_ROUTERS=[Archived()]):
        [message] = found()
        assert message.id == "durable.W004"
        assert "shop.Order on 'archive'" in message.msg
        assert "flows." in message.msg
        assert "'default'" in message.msg


def test_routers_are_no_trouble_without_a_second_database_or_atomic_activities(
    databases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    databases(SQLITE, archive=SQLITE)
    assert ids() == []
    with override_settings(DATABASE_ROUTERS=[Archived()]):
        with monkeypatch.context() as plain:
            plain.setattr(setting_checks, "registry", Registry())
            assert ids() == []
        databases(SQLITE)
        assert ids() == []
