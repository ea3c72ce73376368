"""System checks: what is wrong with the settings, before anything runs. None of them queries a database."""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router

from django_durable import conf
from django_durable.definitions.registry import registry
from django_durable.exceptions import DefinitionError
from django_durable.payloads import sealing
from django_durable.transports import choice

SQLITE_TIMEOUT = 20  # seconds; Django's own 5 is too short for several processes that write
PSYCOPG_POOL_SIZE = 4  # psycopg_pool's min_size, which is its max_size too unless that is given
ISOLATION = "read committed"
SHOWN = 3  # names in a message
OTHER_DISTRIBUTION = "django-durable"  # another project on PyPI that installs a package of the same name


def check_names(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.E001: settings that do not exist."""
    return [
        Error(f"DURABLE has no setting {name!r}.", hint=_near(str(name)), id="durable.E001")
        for name in _declared()
        if name not in conf.NAMES
    ]


def check_values(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.E002: settings of a wrong type or value."""
    declared = getattr(settings, "DURABLE", None)
    if declared is not None and not isinstance(declared, dict):
        hint = 'DURABLE = {"CONCURRENCY": 32}'
        return [Error(f"DURABLE must be a dict, not {declared!r}.", hint=hint, id="durable.E002")]
    return [
        Error(f'DURABLE["{name}"] is {value!r}.', hint=f"It must be {EXPECTED[name][0]}.", id="durable.E002")
        for name, value in _declared().items()
        if name in EXPECTED and not EXPECTED[name][1](value)
    ]


def check_database(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.E003: the alias of a database that does not exist."""
    if _alias() is not None:
        return []
    known = ", ".join(repr(alias) for alias in connections)
    return [
        Error(
            f'DURABLE["DATABASE"] is {_setting("DATABASE")!r}, which is not in DATABASES.',
            hint=f"DATABASES has {known}.",
            id="durable.E003",
        )
    ]


def check_sqlite(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.E004: an SQLite file that several writers could not share."""
    if _vendor() != "sqlite" or _is_in_memory():
        return []
    options = _options()
    missing = []
    if str(options.get("transaction_mode") or "").upper() != "IMMEDIATE":
        missing.append('"transaction_mode": "IMMEDIATE"')
    if "journal_mode=wal" not in str(options.get("init_command") or "").lower().replace(" ", ""):
        missing.append('"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"')
    if not _is_number(options.get("timeout")) or options["timeout"] < SQLITE_TIMEOUT:
        missing.append(f'"timeout": {SQLITE_TIMEOUT}')
    if not missing:
        return []
    return [
        Error(
            f"SQLite database {_alias()!r} is not set up for web and worker processes that write at the same time.",
            hint=f'Add to DATABASES["{_alias()}"]["OPTIONS"]: {", ".join(missing)}.',
            id="durable.E004",
        )
    ]


def check_psycopg(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.E005: psycopg2, which cannot listen without blocking a thread."""
    if _vendor() != "postgresql" or _driver_version() >= 3:
        return []
    return [
        Error(
            "PostgreSQL is used through psycopg2; django_durable needs psycopg 3.",
            hint='pip install "psycopg[binary]"; Django prefers it as soon as it is installed.',
            id="durable.E005",
        )
    ]


def check_transports(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.E006: a transport that cannot be made as it is declared."""
    chosen = _setting("TRANSPORTS")
    if chosen is None or not _are_transports(chosen) or _alias() is None:
        return []
    return [
        Error(problem, hint='Correct DURABLE["TRANSPORTS"].', id="durable.E006")
        for problem in map(_problem_of, choice.declared())
        if problem
    ]


def _problem_of(declared: choice.Declared) -> str:
    try:
        choice.make(declared)
    except DefinitionError as error:
        return str(error)
    return ""


def check_pool(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.W001: a pool of connections that is smaller than the number of activity threads."""
    pool, threads = _options().get("pool"), _setting("CONCURRENCY")
    if not pool or _vendor() != "postgresql" or not _is_number(threads):
        return []
    given = pool if isinstance(pool, dict) else {}
    size = given.get("max_size") or given.get("min_size", PSYCOPG_POOL_SIZE)
    if not _is_number(size) or size >= threads:
        return []
    return [
        Warning(
            f"The connection pool of database {_alias()!r} holds {size} connections, but a worker runs {threads} "
            f"activities at a time: the others would wait for a connection, and time out.",
            hint=f'Set OPTIONS["pool"] = {{"max_size": {threads}}}, or lower DURABLE["CONCURRENCY"].',
            id="durable.W001",
        )
    ]


def check_isolation(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.E009: a level at which transactions on MariaDB go on seeing what has long changed."""
    level = _options().get("isolation_level", ISOLATION)
    if _vendor() != "mysql" or str(level).lower() == ISOLATION:
        return []
    return [
        Error(
            f"Transactions on database {_alias()!r} are at another level than READ COMMITTED: a workflow could end "
            f"without a message that was sent to it before.",
            hint=f'Leave "isolation_level" out of DATABASES["{_alias()}"]["OPTIONS"]; what Django takes is right.',
            id="durable.E009",
        )
    ]


def check_distribution(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.W003: another project's package of the same name."""
    try:
        importlib.metadata.distribution(OTHER_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return []
    return [
        Warning(
            f"The distribution {OTHER_DISTRIBUTION!r} is installed. It is another project with a package of the same "
            f"name, django_durable, and its files may have replaced some of this one's.",
            hint=f"pip uninstall {OTHER_DISTRIBUTION}; then reinstall django-durable-workflows.",
            id="durable.W003",
        )
    ]


def check_routers(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.W004: models that an atomic activity cannot write, because a router sends them elsewhere."""
    alias = _alias()
    atomic = sorted(one.name for one in registry.activities() if one.options.atomic)
    if alias is None or not atomic or len(list(connections)) < 2 or not getattr(settings, "DATABASE_ROUTERS", None):
        return []
    places = {model._meta.label: router.db_for_write(model) for model in apps.get_models() if model._meta.managed}
    elsewhere = sorted(f"{label} on {place!r}" for label, place in places.items() if place != alias)
    if not elsewhere:
        return []
    return [
        Warning(
            f"DATABASE_ROUTERS sends writes of {_some(elsewhere)}, but atomic activities ({_some(atomic)}) commit on "
            f"{alias!r}, and are refused a write anywhere else.",
            hint="Write such models in activities without atomic=True. Silence this once no atomic activity does.",
            id="durable.W004",
        )
    ]


def check_payloads(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.E007: payloads could not be stored as the settings say."""
    try:
        declared = _setting("PAYLOADS")
        sealing.from_settings(declared if isinstance(declared, Mapping) else {})  # else durable.E002
    except DefinitionError as error:
        hint = "docs/payloads.md lists formats and codecs, and what to install for them."
        return [Error(f'DURABLE["PAYLOADS"] cannot be used: {error}', hint=hint, id="durable.E007")]
    return []


def check_status_cache(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.E008: a cache of statuses that does not exist, or options of it that could not work."""
    declared = _setting("STATUS_CACHE")
    if not isinstance(declared, Mapping):
        return []  # else durable.E002
    return [
        Error(f'DURABLE["STATUS_CACHE"]: {problem}', hint=f"It takes {STATUS_CACHE_HINT}.", id="durable.E008")
        for problem in _problems_of_status_cache(declared)
    ]


def _problems_of_status_cache(declared: Mapping[Any, Any]) -> Iterator[str]:
    for name in declared:
        if name not in ("ALIAS", "SECONDS", "MAX_BYTES"):
            yield f"there is no option {name!r}."
    alias = declared.get("ALIAS", "default")
    if alias not in settings.CACHES:
        yield f"{alias!r} is not in CACHES."
    if not _is_count(declared.get("SECONDS", 2), least=2):
        yield f"SECONDS is {declared['SECONDS']!r}; it must be a whole number of at least 2."
    if not _is_count(declared.get("MAX_BYTES", 1)):
        yield f"MAX_BYTES is {declared['MAX_BYTES']!r}; it must be a whole number of at least 1."


STATUS_CACHE_HINT = '{"ALIAS": "default", "SECONDS": 5, "MAX_BYTES": 65536}, all of them optional'

ALL = (
    check_names,
    check_values,
    check_database,
    check_sqlite,
    check_psycopg,
    check_transports,
    check_pool,
    check_isolation,
    check_distribution,
    check_routers,
    check_payloads,
    check_status_cache,
)


def _declared() -> dict[Any, Any]:
    declared = getattr(settings, "DURABLE", None)
    return declared if isinstance(declared, dict) else {}


def _setting(name: str) -> Any:
    """One setting as declared, right or wrong, or its default."""
    return _declared().get(name, getattr(conf.Settings(), name))


def _near(name: str) -> str:
    matches = difflib.get_close_matches(name.upper(), conf.NAMES, n=1)
    return f"Did you mean {matches[0]!r}?" if matches else f"Settings are: {', '.join(sorted(conf.NAMES))}."


def _alias() -> str | None:
    alias = _setting("DATABASE")
    return alias if isinstance(alias, str) and alias in connections.settings else None


def _vendor() -> str:
    alias = _alias()
    return connections[alias].vendor if alias else ""


def _options() -> dict[str, Any]:
    alias = _alias()
    return connections[alias].settings_dict.get("OPTIONS") or {} if alias else {}


def _some(names: Sequence[str]) -> str:
    """The first few of many names."""
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown


def _is_in_memory() -> bool:
    """A database for tests only: it has one process, and no journal."""
    name = str(connections[_setting("DATABASE")].settings_dict.get("NAME") or "")
    return name in ("", ":memory:") or "mode=memory" in name


def _driver_version() -> int:
    """Major version of the PostgreSQL driver that Django has loaded."""
    database: Any = connections[_setting("DATABASE")].Database  # type: ignore[attr-defined]
    return int(str(database.__version__).split(".")[0])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_positive(value: Any) -> bool:
    return _is_number(value) and 0 < value < float("inf")


def _are_transports(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(alias, str) and _is_transport(one) for alias, one in value.items())
    return value is None or (_are_names(value) and set(value) <= set(choice.KINDS))


def _is_transport(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and {"BACKEND"} <= set(value) <= {"BACKEND", "OPTIONS"}
        and isinstance(value["BACKEND"], str)
        and isinstance(value.get("OPTIONS", {}), Mapping)
    )


def _are_names(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 0
        and all(isinstance(name, str) and name for name in value)
    )


_COUNT = ("a whole number of at least 1", _is_count)
_SECONDS = ("a number of seconds above 0", _is_positive)


def _is_origin(value: Any) -> bool:
    return isinstance(value, str) and (not value or value.startswith(("https://", "http://")))


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and (not value or value.rpartition(":")[2].isdigit())


_BYTES = ("a number of bytes of at least 1", _is_count)

EXPECTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "DATABASE": ("the alias of a database, as text", lambda value: isinstance(value, str)),
    "OTHER_TRANSACTIONS": ('"refuse", "warn" or "allow"', lambda value: value in ("refuse", "warn", "allow")),
    "TRANSPORTS": (
        f'None, a list of these names: {", ".join(choice.KINDS)}, or {{alias: {{"BACKEND": ..., "OPTIONS": {{...}}}}}}',
        _are_transports,
    ),
    "QUEUES": ('a list of names, such as ["default"]', _are_names),
    "CONCURRENCY": _COUNT,
    "ASYNC_CONCURRENCY": _COUNT,
    "PROCESS_CONCURRENCY": ("None, or a whole number of at least 1", lambda value: value is None or _is_count(value)),
    "LEASE_SECONDS": ("a number of seconds of at least 1", lambda value: _is_positive(value) and value >= 1),
    "INSTANCE_CACHE_SIZE": ("a whole number of at least 0", lambda value: _is_count(value, least=0)),
    "LINGER_SECONDS": ("a number of seconds of at least 0", lambda value: value == 0 or _is_positive(value)),
    "POLL_SECONDS": ("None, or a number of seconds above 0", lambda value: value is None or _is_positive(value)),
    "DRAIN_SECONDS": ("a number of seconds of at least 0", lambda value: value == 0 or _is_positive(value)),
    "STUCK_SECONDS": _SECONDS,
    "ON_WORKFLOW_ERROR": ('"fail" or "block"', lambda value: value in ("fail", "block")),
    "METRICS_ADDRESS": ('"" or a port with or without an address, such as "127.0.0.1:9100"', _is_address),
    "METRICS_CACHE_SECONDS": ("a number of seconds of at least 0", lambda value: value == 0 or _is_positive(value)),
    "HEALTH_DIRECTORY": ('"" or the path of a directory', lambda value: isinstance(value, str)),
    "EMBEDDED_WORKER": ("True or False", lambda value: isinstance(value, bool)),
    "MAX_PAYLOAD_BYTES": _BYTES,
    "WARN_PAYLOAD_BYTES": _BYTES,
    "PAYLOADS": (
        'None, or a dict such as {"FORMAT": "json", "CODECS": []}',
        lambda value: value is None or isinstance(value, Mapping),
    ),
    "MAX_INTERRUPTIONS": _COUNT,
    "RETENTION": (
        'None, a timedelta, or a dict such as {"completed": timedelta(days=30)}',
        lambda value: value is None or isinstance(value, timedelta | Mapping),
    ),
    "RETENTION_EXPORT": ('"" or the path of a directory', lambda value: isinstance(value, str)),
    "CALLBACK_URL": ('"" or a URL such as "https://example.com"', _is_origin),
    "CALLBACK_SECONDS": _SECONDS,
    "CALLBACK_MAX_BYTES": _BYTES,
    "STATUS_CACHE": (
        'None, or a dict such as {"ALIAS": "default"}',
        lambda value: value is None or isinstance(value, Mapping),
    ),
    "API": (
        'None, or a dict such as {"AUTH": "shop.api.ApiKey"}',
        lambda value: value is None or isinstance(value, Mapping),
    ),
}
"""What each setting must be, in words and as a test."""
