"""Other databases than ours, while an atomic activity runs: what it wrote there would not be in its transaction."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self

from django.db import connections

from django_durable.exceptions import ForeignWrite
from django_durable.store import database

# SELECT may lock rows, and call functions that write, of which nobody can know.
_WRITES = re.compile(
    r"(\s|\(|--[^\n]*\n|/\*.*?\*/)*(INSERT|UPDATE|DELETE|REPLACE|MERGE|TRUNCATE|COPY|CALL|DO|CREATE|ALTER|DROP)\b",
    re.IGNORECASE | re.DOTALL,
)
_WITH = re.compile(r"(\s|\(|--[^\n]*\n|/\*.*?\*/)*WITH\b", re.IGNORECASE | re.DOTALL)
_WRITES_INSIDE = re.compile(
    r"\b(INSERT|REPLACE|MERGE)\s+INTO\b|\bDELETE\s+FROM\b|\bUPDATE\s+(?!OF\b|SKIP\b|NOWAIT\b)[^()]*?\sSET\b",
    re.IGNORECASE,
)


class Refusal:
    """For the time of a ``with`` block, this thread's other connections take no writes. Reads are welcome.

    Raises ``ForeignWrite``, at the block's end once more in case that the activity has swallowed it.
    """

    def __init__(self, activity: str) -> None:
        self._activity = activity
        self._refused: ForeignWrite | None = None
        self._wrapped = ExitStack()

    def __enter__(self) -> Self:
        ours = database.alias()
        for alias in connections:
            if alias != ours:
                self._wrapped.enter_context(connections[alias].execute_wrapper(partial(self._check, alias)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wrapped.close()
        if self._refused is not None and error is not self._refused and not _is_final(error):
            raise self._refused from error

    def _check(self, alias: str, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        if writes(sql):
            ours = database.alias()
            self._refused = ForeignWrite(
                f"Atomic activity {self._activity} wrote to database {alias!r}, but its transaction is on {ours!r}: "
                f"a write elsewhere could be kept without the activity's completion, and done again. Do it in an "
                f"activity of its own without atomic=True, or keep that model on {ours!r}."
            )
            raise self._refused
        return execute(sql, params, many, context)


def writes(sql: Any) -> bool:
    """Whether a statement, a text or one that psycopg composes, changes something."""
    text = sql.as_string(None) if hasattr(sql, "as_string") else str(sql)
    return bool(_WRITES.match(text) or (_WITH.match(text) and _WRITES_INSIDE.search(text)))


def _is_final(error: BaseException | None) -> bool:
    """What is no ordinary exception says more than a refused write: a cancellation, an exit."""
    return error is not None and not isinstance(error, Exception)
