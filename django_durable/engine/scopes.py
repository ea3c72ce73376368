"""Scopes: names for parts of a workflow, under which people find in its history what was asked for there."""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType

from django_durable.definitions import options as checks
from django_durable.exceptions import DefinitionError

NAME_LIMIT = 100  # characters
COMPENSATION = "compensation"

_path: ContextVar[str] = ContextVar("durable_scope", default="")

current = _path.get
"""The scope of the code that runs: names from the outermost to the innermost, with slashes between; empty outside."""


class Scope:
    """Makes what is asked for inside ``with`` or ``async with`` belong to it, in tasks that begin there as well."""

    __slots__ = ("_name", "_token")

    def __init__(self, name: str) -> None:
        checks.check_text(name, what="The name of a scope", limit=NAME_LIMIT)
        if "/" in name:
            raise DefinitionError(f"The name of a scope cannot contain a slash, which stands between scopes: {name!r}.")
        self._name = name
        self._token: Token[str] | None = None

    def __enter__(self) -> None:
        if self._token is not None:
            raise RuntimeError(f"Scope {self._name!r} is entered already. Make another one: ctx.scope({self._name!r}).")
        outer = _path.get()
        self._token = _path.set(f"{outer}/{self._name}" if outer else self._name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            _path.reset(token)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)
