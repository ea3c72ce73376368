"""Tenants as schemas of one PostgreSQL database: the schema of a start is the schema of its activities.

For projects that keep to plain schemas. One with django-tenants has its own ``schema_context``: docs/databases.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_durable import conf, durable

SHARED = "public"
"""Where the tables are that all tenants share, ours among them."""

_UNKNOWN = "?"  # no schema has that name: a new connection, perhaps one that a pool has lent to others before
_MARK = "_durable_schema"

_current: ContextVar[str | None] = ContextVar("durable_schema", default=None)


def current_schema() -> str | None:
    """The schema that queries go to first; None: none was chosen."""
    return _current.get()


@contextmanager
def using_schema(name: str | None) -> Iterator[None]:
    """Inside the block queries of our database look into this schema first, then into the shared one.

    That holds for this thread or task and what it calls, whatever connections that opens. Works as a decorator too.
    """
    token = _current.set(name)
    _set_at_once()
    try:
        yield
    finally:
        _current.reset(token)


def carry() -> None:
    """Take the schema along from the start of a workflow to its activities. Called once, in ``AppConfig.ready``."""
    durable.propagate("schema", capture=current_schema, restore=using_schema)
    connection_created.connect(_follow, dispatch_uid="durable_schemas")
    for one in connections.all(initialized_only=True):
        _attach(one)


def _follow(sender: Any, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    _attach(connection)


def _attach(connection: BaseDatabaseWrapper) -> None:
    if connection.vendor != "postgresql" or connection.alias != conf.current().DATABASE:
        return
    setattr(connection, _MARK, _UNKNOWN)
    if _look_there not in connection.execute_wrappers:
        connection.execute_wrappers.insert(0, _look_there)


def _set_at_once() -> None:
    """Before a transaction begins, in which it would have to be set for each statement. Not from an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        connection = connections[conf.current().DATABASE]
        wanted = _current.get()
        if connection.connection is not None and not connection.in_atomic_block:
            if getattr(connection, _MARK, wanted) != wanted:
                _set_path(connection, wanted)


def _look_there(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Before each statement: the connection's search path is that of whoever executes it."""
    connection: BaseDatabaseWrapper = context["connection"]
    wanted = _current.get()
    if getattr(connection, _MARK) != wanted:
        _set_path(connection, wanted)
    return execute(sql, params, many, context)


def _set_path(connection: BaseDatabaseWrapper, name: str | None) -> None:
    assert connection.connection is not None
    with (
        connection.wrap_database_errors,
        connection.connection.cursor() as cursor,
    ):  # the driver's own: this is no query of the project's
        if name is None:
            cursor.execute("RESET search_path")
        else:
            cursor.execute("SELECT set_config('search_path', quote_ident(%s) || ', ' || %s, false)", [name, SHARED])
    # What is set inside a transaction is undone by its rollback: then nobody knows.
    setattr(connection, _MARK, _UNKNOWN if connection.in_atomic_block else name)
