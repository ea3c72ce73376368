"""Database URLs as Django's settings: ``postgres://user:password@host:port/name``, ``mysql://...`` for MariaDB, and
``sqlite:////absolute/path``.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

SQLITE_OPTIONS = {
    # What django_durable asks of SQLite: writers queue up instead of failing, readers are never blocked, and
    # (synchronous=FULL) what was committed survives a power cut, not only a crash of the process.
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
}
SERVERS = {
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
    "mysql": "django.db.backends.mysql",
}


def from_url(url: str) -> dict[str, Any]:
    """An entry for ``DATABASES``. The query of a server's URL becomes its ``OPTIONS``.

    Raises ``ValueError`` for a URL of another scheme, or without a database name.
    """
    parts = urlsplit(url)
    name = unquote(parts.path[1:])
    if not name:
        raise ValueError(f"The database URL {url!r} names no database.")
    if parts.scheme == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": dict(SQLITE_OPTIONS)}
    if parts.scheme in SERVERS:
        return {
            "ENGINE": SERVERS[parts.scheme],
            "NAME": name,
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": parts.hostname or "",
            "PORT": str(parts.port or ""),
            "OPTIONS": dict(parse_qsl(parts.query)),
        }
    raise ValueError(f"A database URL starts with sqlite:, postgres: or mysql:, not {parts.scheme!r}.")


def sqlite_url(path: object) -> str:
    """The URL of the SQLite file at an absolute ``path``."""
    return f"sqlite:///{quote(str(path))}"
