"""What may be declared as a workflow or an activity: plain functions that a name can find again."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from django_durable.exceptions import DefinitionError


class Place(NamedTuple):
    """Where a function is written."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def check_declarable(function: Any, *, decorator: str) -> None:
    """Refuse everything but functions at module level, saying what to do.

    A run outlives the process that started it: other processes find the function again by importing its module.
    """
    if isinstance(function, staticmethod | classmethod | property):
        raise DefinitionError(f"@{decorator} cannot be used on methods. Move the code into a function of the module.")
    if not isinstance(function, types.FunctionType):
        raise DefinitionError(
            f"@{decorator} needs a function written with def, not {function!r}. "
            f"Write a function that calls it, and decorate that."
        )
    reason = _unfindable(function)
    if reason:
        raise DefinitionError(
            f"@{decorator} on {function.__qualname__} ({place_of(function)}): {reason}, which no other process could "
            f"find again. Move it to the top level of its module, and pass what it needs as arguments."
        )


def place_of(function: Callable[..., Any]) -> Place:
    """File and line of the function itself, below its decorators' wrappers."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return Place(code.co_filename, code.co_firstlineno) if code else Place(str(function), 0)


def _unfindable(function: types.FunctionType) -> str:
    if function.__name__ == "<lambda>":
        return "it is a lambda"
    if "<locals>" in function.__qualname__:
        return "it is defined inside another function"
    if "." in function.__qualname__:
        return "it is a method"
    return ""
