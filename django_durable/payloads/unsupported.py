"""What JSON cannot hold, and what to pass instead."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from django_durable.payloads import custom

SUPPORTED = (
    "use dataclasses, dicts with text keys, lists, tuples, sets, text, numbers, bytes, datetimes, Decimal, UUID, "
    "enums, pydantic models or protobuf messages"
)

_STORABLE = (
    *(str, bytes, bytearray, memoryview, int, float, type(None), dict, list, tuple, set, frozenset, enum.Enum),
    *(datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID),
    *(msgspec.Struct, msgspec.Raw),
)

_KEYS = (str, int, float, enum.Enum, uuid.UUID, datetime.date, decimal.Decimal)

_ADVICE: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (lambda value: isinstance(value, type), "pass a name, or an instance"),
    (lambda value: isinstance(value, Iterator), "pass a list of what it yields"),
    (lambda value: isinstance(value, BaseException), "pass str() of it"),
    (lambda value: hasattr(type(value), "_meta") and hasattr(value, "pk"), "pass its primary key and load it there"),
    (lambda value: hasattr(value, "values_list"), "pass a list of primary keys"),
    (lambda value: type(value).__name__ == "__proxy__", "it is lazy text: pass str() of it"),
    (lambda value: hasattr(value, "read"), "store the file and pass its name"),
    (callable, "pass data, not code"),
)


def describe(value: Any) -> str:
    """One sentence: the type of ``value``, and what to do."""
    kind = type(value)
    advice = next((advice for applies, advice in _ADVICE if applies(value)), SUPPORTED)
    return f"values of type {kind.__module__}.{kind.__qualname__} are not supported; {advice}."


def describe_type(kind: Any) -> str:
    """One sentence, as ``describe`` of a value, for a type that no decoder knows."""
    advice = "use the type of its primary key, and load it there" if hasattr(kind, "_meta") else SUPPORTED
    return f"values of type {getattr(kind, '__qualname__', kind)} cannot be read back from JSON; {advice}."


def is_unsupported(value: Any) -> bool:
    """Whether msgspec would refuse this very value, its parts aside."""
    kind = type(value)
    if isinstance(value, dict):
        return not all(isinstance(key, _KEYS) for key in value)
    return not (
        isinstance(value, _STORABLE)
        or custom.of_value(value) is not None
        or dataclasses.is_dataclass(kind)
        or hasattr(kind, "__attrs_attrs__")
        or hasattr(kind, "__pydantic_validator__")
        or hasattr(kind, "DESCRIPTOR")
    )
