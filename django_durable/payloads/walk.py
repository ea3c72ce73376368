"""Ways through a Python value: where in it something lies. For values that are known to be wrong or unordered."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

ROOT = "$"


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """The direct parts of a container, each with its step of the path: ``.name`` or ``[index]``."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"[key {key!r}]", key
            yield f".{key}", item
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from (("[…]", item) for item in value)
    else:
        yield from ((f".{name}", item) for name, item in fields(value))


def fields(value: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a dataclass, a Struct or a pydantic model; of anything else nothing."""
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        names: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(kind))
    elif isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
    elif hasattr(kind, "__pydantic_validator__"):
        names = tuple(vars(value))
    else:
        return
    for name in names:
        item = getattr(value, name, msgspec.UNSET)
        if item is not msgspec.UNSET:
            yield name, item


def places(value: Any) -> Iterator[tuple[str, Any]]:
    """``value`` and everything inside it, with paths such as ``$.lines[2].price``. Ends on cycles too."""
    seen: set[int] = set()
    waiting = [(ROOT, value)]
    while waiting:
        path, item = waiting.pop()
        yield path, item
        if isinstance(item, str | bytes | int | float) or id(item) in seen:
            continue
        seen.add(id(item))
        waiting.extend(reversed([(path + step, child) for step, child in children(item)]))


def find(value: Any, wanted: Callable[[Any], bool]) -> str | None:
    """The path of the first part that ``wanted`` says yes to."""
    return next((path for path, item in places(value) if wanted(item)), None)
