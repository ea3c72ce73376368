"""The transports that the settings choose: made when first used, and anew when the settings have changed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.module_loading import import_string

from django_durable import conf
from django_durable.exceptions import DefinitionError
from django_durable.store import database
from django_durable.transports.base import Transport

KINDS = {
    "polling": "django_durable.transports.polling.PollingTransport",
    "postgres": "django_durable.transports.postgres.PostgresTransport",
    "redis": "django_durable.transports.redis.RedisTransport",
    "sqs": "django_durable.transports.sqs.SqsTransport",
}
"""Short names. Modules are imported when they are chosen: some need packages that others do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One transport as the settings have it. ``backend`` is a short name or a dotted path."""

    alias: str
    backend: str
    options: Mapping[str, Any]


def declared() -> list[Declared]:
    """What the settings name, or the best transport for the database."""
    chosen = conf.current().TRANSPORTS
    if chosen is None:
        chosen = ("postgres",) if database.is_postgres() else ("polling",)
    if isinstance(chosen, Mapping):
        return [
            Declared(alias=alias, backend=one["BACKEND"], options=one.get("OPTIONS", {}))
            for alias, one in chosen.items()
        ]
    return [Declared(alias=name, backend=name, options={}) for name in chosen]


def make(one: Declared) -> Transport:
    """Raises ``DefinitionError`` if there is no such transport, or if it cannot work as it is declared."""
    path = KINDS.get(one.backend, one.backend)
    try:
        kind = import_string(path)
    except ImportError as error:
        raise DefinitionError(
            f"Transport {one.alias!r} cannot be loaded: {error}. Its backend is {one.backend!r}; it must be one of "
            f"{', '.join(KINDS)}, or the dotted path of a class, and what that needs must be installed."
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, Transport)):
        raise DefinitionError(
            f"Transport {one.alias!r} cannot be used: {path} is no subclass of {Transport.__module__}.Transport."
        )
    return kind(one.alias, one.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    settings: conf.Settings
    transports: list[Transport]


_made: _Made | None = None
_making = threading.RLock()


def current() -> list[Transport]:
    """The transports in use. Raises ``DefinitionError`` if the settings are wrong."""
    settings = conf.current()
    made = _made
    if made is None or made.settings is not settings:
        made = _make_anew(settings)
    return made.transports


def close() -> None:
    """Close what is in use; the next use makes it anew."""
    global _made
    with _making:
        before, _made = _made, None
    for transport in before.transports if before else ():
        transport.close()


def _make_anew(settings: conf.Settings) -> _Made:
    global _made
    with _making:
        if _made is None or _made.settings is not settings:
            fresh = _Made(settings=settings, transports=[make(one) for one in declared()])
            close()
            _made = fresh
        return _made
