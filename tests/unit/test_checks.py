"""System checks: each wrong setting is found, named and explained; right ones are left alone."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core.checks import CheckMessage, registry, run_checks
from django.db.utils import ConnectionHandler
from django.test import override_settings

from django_durable import apps as durable_apps
from django_durable import checks, conf
from django_durable.checks import mariadb as mariadb_checks
from django_durable.checks import settings as setting_checks
from django_durable.checks.retention import check_retention
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
    assert run_checks(tags=[checks.TAG], databases=[]) == []


def test_every_check_is_registered_once_under_the_tag() -> None:
    registered: list[Any] = [
        check for check in registry.registry.registered_checks if checks.TAG in getattr(check, "tags", ())
    ]
    assert sorted(check.__name__ for check in registered) == sorted(
        check.__name__ for check in (*checks.ALL, *checks.CONNECTING)
    )


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
        ("TRANSPORTS", ["pigeons"]),
        ("TRANSPORTS", {}),
        ("TRANSPORTS", {"default": "polling"}),
        ("TRANSPORTS", {"default": {"OPTIONS": {}}}),
        ("TRANSPORTS", {"default": {"BACKEND": "polling", "OPTION": {}}}),
        ("TRANSPORTS", {"default": {"BACKEND": "polling", "OPTIONS": []}}),
        ("LEASE_SECONDS", 0),
        ("LEASE_SECONDS", float("nan")),
        ("INSTANCE_CACHE_SIZE", -1),
        ("LINGER_SECONDS", -0.1),
        ("POLL_SECONDS", 0),
        ("DRAIN_SECONDS", None),
        ("STUCK_SECONDS", 0),
        ("EMBEDDED_WORKER", "yes"),
        ("MAX_PAYLOAD_BYTES", 0),
        ("PAYLOADS", "msgpack"),
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
        ("TRANSPORTS", {"default": {"BACKEND": "polling"}}),
        ("TRANSPORTS", {"default": {"BACKEND": "tests.unit.test_transports.Pigeons", "OPTIONS": {"LOFT": "roof"}}}),
        ("QUEUES", ("a", "b")),
        ("DRAIN_SECONDS", 0),
    ],
)
def test_a_right_value_is_left_alone(databases: Any, name: str, right: Any) -> None:
    databases(SQLITE)
    assert ids(**{name: right}) == []


def test_payloads_that_could_not_be_stored_are_found(databases: Any) -> None:
    databases(SQLITE)
    [message] = found(PAYLOADS={"CODECS": [{"BACKEND": "django_durable.payloads.codecs.encryption.Fernet"}]})
    assert message.id == "durable.E007"
    assert "CODECS[0]: OPTIONS do not fit Fernet" in message.msg
    assert ids(PAYLOADS={"FORMAT": "msgpack"}) == []


def test_a_retention_that_could_not_work_is_found() -> None:
    with override_settings(DURABLE={"RETENTION": {"complete": timedelta(days=1)}}):
        [message] = check_retention(None)
    assert (message.id, "Did you mean 'completed'" in message.msg) == ("durable.E011", True)
    with override_settings(DURABLE={"RETENTION": {"completed": timedelta(days=1)}}):
        assert check_retention(None) == []


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
    ("backend", "options", "problem"),
    [
        ("pigeons", {}, "must be one of polling, postgres, redis"),
        ("tests.unit.test_transports.Doves", {}, "cannot be loaded"),
        ("tests.unit.test_transports.WhiteFlag", {}, "no subclass"),
        ("polling", {"LOFT": "roof"}, "no option 'LOFT'"),
        ("redis", {"CACHE": "nowhere"}, "CACHES['nowhere']"),
        ("redis", {"CACHE": "default"}, "django_redis.cache.RedisCache"),
    ],
)
def test_a_transport_that_cannot_work_is_found(databases: Any, backend: str, options: Any, problem: str) -> None:
    databases(SQLITE)
    [message] = found(TRANSPORTS={"birds": {"BACKEND": backend, "OPTIONS": options}})
    assert message.id == "durable.E006"
    assert "'birds'" in message.msg
    assert problem in message.msg


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


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, []),
        ({"isolation_level": "READ COMMITTED"}, []),
        ({"isolation_level": "repeatable read"}, ["durable.E009"]),
        ({"isolation_level": None}, ["durable.E009"]),
    ],
)
def test_transactions_that_do_not_see_what_others_have_committed_are_found(
    databases: Any, options: Any, expected: Any
) -> None:
    pytest.importorskip("MySQLdb")
    databases({"ENGINE": "django.db.backends.mysql", "NAME": "shop", "OPTIONS": options})
    assert ids() == expected


class Server:
    """A connection to a server that says of itself what a test wants, and has no tables yet."""

    vendor, alias = "mysql", "default"

    def __init__(self, *version: int, mariadb: bool = True, packet: int = 16_777_216) -> None:
        self.mysql_version, self.mysql_is_mariadb, self._packet = version, mariadb, packet

    @contextmanager
    def cursor(self) -> Iterator[Server]:
        yield self

    def execute(self, sql: str, params: Any = ()) -> None:
        self._rows = [(self._packet,)] if "max_allowed_packet" in sql else []

    def fetchone(self) -> Any:
        return self._rows[0]

    def fetchall(self) -> Any:
        return self._rows


@pytest.mark.parametrize(
    ("server", "payload", "expected"),
    [
        (Server(10, 6, 1), 2 * 1024 * 1024, []),
        (Server(11, 8, 2), 2 * 1024 * 1024, []),
        (Server(10, 5, 12), 2 * 1024 * 1024, ["durable.E010"]),
        (Server(8, 4, 0, mariadb=False), 2 * 1024 * 1024, ["durable.E010"]),
        (Server(10, 11, 2, packet=4_000_000), 2 * 1024 * 1024, ["durable.W008"]),
        (Server(10, 11, 2), 10_000_000, ["durable.W008"]),
    ],
)
def test_a_mysql_an_old_mariadb_and_short_packets_are_found(
    monkeypatch: pytest.MonkeyPatch, server: Server, payload: int, expected: list[str]
) -> None:
    monkeypatch.setattr(mariadb_checks, "connections", {"default": server})
    with override_settings(DURABLE={"MAX_PAYLOAD_BYTES": payload}):
        assert [one.id for one in mariadb_checks.check_server(None, databases=["default"])] == expected
        assert mariadb_checks.check_server(None, databases=[]) == []


def test_the_other_distribution_of_this_name_is_found(databases: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    databases(SQLITE)
    asked: list[str] = []
    monkeypatch.setattr(importlib.metadata, "distribution", asked.append)
    [message] = found()
    assert (message.id, asked) == ("durable.W003", ["django-durable"])
    assert "pip uninstall django-durable" in str(message.hint)


def test_a_largest_payload_below_the_one_that_is_warned_of_is_kept_to() -> None:
    with override_settings(DURABLE={"MAX_PAYLOAD_BYTES": 10}):
        assert limits.current() == limits.Limits(max_bytes=10, warn_bytes=10)


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


def test_a_cache_of_statuses_that_could_not_work_is_found() -> None:
    assert ids(STATUS_CACHE={"ALIAS": "default", "SECONDS": 2, "MAX_BYTES": 1}) == []
    wrong = {"ALIAS": "nowhere", "SECONDS": 1.5, "MAX_BYTES": 0, "TTL": 5}
    assert ids(STATUS_CACHE=wrong) == ["durable.E008"] * 4
    assert ids(STATUS_CACHE="default") == ["durable.E002"]
