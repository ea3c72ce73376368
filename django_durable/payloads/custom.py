"""Types of the application's own: how each becomes something that JSON can hold, and what it was again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from django_durable.exceptions import DefinitionError


class Conversion(NamedTuple):
    """``encode`` gives what JSON can hold, ``decode`` makes the value of it again."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


_conversions: dict[type, Conversion] = {}


def add(kind: type, *, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
    """Store values of ``kind`` through these functions. Raises ``DefinitionError`` for what is no class or function.

    A second registration replaces the first, so that a module may be imported again.
    """
    if not isinstance(kind, type):
        raise DefinitionError(f"durable.payload_type() takes a class, not {kind!r}.")
    for name, function in (("encode", encode), ("decode", decode)):
        if not callable(function):
            raise DefinitionError(
                f"durable.payload_type({kind.__qualname__}): {name} must be a function: {function!r}."
            )
    _conversions[kind] = Conversion(encode, decode)


def of_value(value: Any) -> Conversion | None:
    """How ``value`` is stored; subclasses of a registered class count as it."""
    return next((_conversions[kind] for kind in type(value).__mro__ if kind in _conversions), None)


def of_type(kind: Any) -> Conversion | None:
    """How values of just this class are read."""
    return _conversions.get(kind) if isinstance(kind, type) else None
