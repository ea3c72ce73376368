"""System checks that connect to the database: how it is reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Warning
from django.db import DatabaseError, connections

from django_durable import conf
from django_durable.exceptions import DefinitionError
from django_durable.store import pooling
from django_durable.transports import choice

LISTENING = ("postgres", choice.KINDS["postgres"])


def check_pooler(app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """durable.W005 and durable.W006: settings that do not go together with a pooler such as PgBouncer."""
    alias = conf.current().DATABASE
    if alias not in (databases or ()) or connections[alias].vendor != "postgresql":
        return []
    try:
        if not pooling.is_pooled(connections[alias]):
            return []
        return [*_listening(alias), *_cursors(alias)]
    except (DatabaseError, DefinitionError):  # other checks, and Django itself, say what is wrong with these
        return []


def _listening(alias: str) -> list[CheckMessage]:
    deaf = [one for one in choice.declared() if one.backend in LISTENING and not one.options.get("LISTEN_DATABASE")]
    if not deaf:
        return []
    return [
        Warning(
            f"Database {alias!r} is reached through a pooler such as PgBouncer, through which transport "
            f"{deaf[0].alias!r} hears no notifications: workers poll.",
            hint="Give it the option LISTEN_DATABASE, the alias of a direct connection in DATABASES (or this alias, if "
            "the pooler is in session mode), or set DURABLE['TRANSPORTS'] to ['polling'] or ['redis'].",
            id="durable.W005",
        )
    ]


def _cursors(alias: str) -> list[CheckMessage]:
    settings = connections[alias].settings_dict
    changes = []
    if not settings.get("DISABLE_SERVER_SIDE_CURSORS"):
        changes.append('"DISABLE_SERVER_SIDE_CURSORS": True')
    if settings["OPTIONS"].get("prepare_threshold") is not None:
        changes.append('no "prepare_threshold" in "OPTIONS"')
    if not changes:
        return []
    return [
        Warning(
            f"Database {alias!r} is reached through a pooler such as PgBouncer, and its settings count on a connection "
            "of one's own: QuerySet.iterator() in activities, or prepared statements, would fail now and then.",
            hint=f'DATABASES["{alias}"] needs {" and ".join(changes)}, unless the pooler is in session mode.',
            id="durable.W006",
        )
    ]


ALL = (check_pooler,)
