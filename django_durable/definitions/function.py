"""What may be declared as a workflow or an activity: plain functions that a name can find again."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from django_durable.exceptions import DefinitionError


class Place(NamedTuple):
    """Where a function is written."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Declared:
    """What stands in a module in the place of a function, and its copies with other options.

    It is code, not data: a copy of it is itself, and pickle keeps where it stands, as it does of a function.
    """

    _declared: Any  # what the decorator made

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> Any:
        if self is self._declared:
            return self.__qualname__
        return _configured, (self._declared, self._changed_options())

    def _changed_options(self) -> dict[str, Any]:
        """The options that make this of what the decorator made."""
        raise NotImplementedError

    def _changeable(self) -> Self:
        """A copy that nobody else has yet."""
        changed = object.__new__(type(self))
        vars(changed).update(vars(self))
        return changed


def _configured(declared: Any, changes: dict[str, Any]) -> Any:
    return declared.using(**changes)


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
