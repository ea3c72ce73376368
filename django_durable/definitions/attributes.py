"""Search attributes of a run: small typed values under names, by which runs are found."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from django_durable.definitions import options as checks
from django_durable.exceptions import DefinitionError, PayloadError

KEY_LIMIT = 100  # characters, what the table holds
TEXT_LIMIT = 255
COUNT_LIMIT = 100
"""Attributes of one run: they are for finding it, not for keeping its data."""

EXACT = 2**53
"""Whole numbers beyond this have neighbours that are the same as floating-point numbers."""

SUPPORTED = "text, numbers, bool, Decimal, datetime with a time zone, date, UUID and enums of these"


class Indexed(NamedTuple):
    """Where a value is found: exactly one of these is set."""

    text: str | None = None
    number: float | None = None
    time: datetime | None = None


class Attribute(NamedTuple):
    """A value as it is kept: ``plain`` is its JSON form, an object if its type is none of JSON's own."""

    plain: Any
    indexed: Indexed


def checked(given: Mapping[str, Any], *, owner: str) -> dict[str, Any]:
    """The values of ``given`` as they will be read back; None removes. Raises for what cannot be an attribute."""
    if not isinstance(given, Mapping):
        raise DefinitionError(f"{owner}: attributes are a dict of names and values, not {given!r}.")
    for key in given:
        _check_key(key, owner)
    return {key: None if value is None else decode(encode(key, value).plain) for key, value in given.items()}


def encode(key: str, value: Any) -> Attribute:
    """Raises ``PayloadError`` for a value of another kind."""
    value = value.value if isinstance(value, enum.Enum) else value
    for kind, form in _FORMS:
        if isinstance(value, kind):
            attribute: Attribute = form(key, value)
            return attribute
    raise PayloadError(f"Attribute {key!r} cannot be {value!r}. Attributes are {SUPPORTED}.{_advice(value)}")


def encode_all(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The JSON form of several; None if there are none."""
    return {key: encode(key, value).plain for key, value in values.items()} or None


def decode(plain: Any) -> Any:
    """The value of a JSON form."""
    if not isinstance(plain, dict):
        return plain
    ((name, text),) = plain.items()
    return _READERS[name](text)


def decode_all(plain: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: decode(one) for key, one in (plain or {}).items()}


def dump(attribute: Attribute) -> str:
    """As it stands in its column."""
    return msgspec.json.encode(attribute.plain).decode()


def load(text: str) -> Any:
    return decode(msgspec.json.decode(text))


def _check_key(key: Any, owner: str) -> None:
    checks.check_text(key, what=f"{owner}: the name of an attribute", limit=KEY_LIMIT)
    if "__" in key:
        raise DefinitionError(f"{owner}: the name of an attribute cannot contain '__', which begins a lookup: {key!r}.")


def _advice(value: Any) -> str:
    if hasattr(value, "_meta") and hasattr(value, "pk"):
        return " Give its primary key, or start the workflow with using(subject=...)."
    return ""


def _text(key: str, value: str) -> Attribute:
    value = str.__str__(value)
    if len(value) > TEXT_LIMIT:
        raise PayloadError(
            f"Attribute {key!r} has {len(value)} characters; at most {TEXT_LIMIT} are kept. Attributes are for finding "
            f"a run: keep its data in its input, its result or a table of yours."
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise PayloadError(f"Attribute {key!r} has a lone surrogate (half of a character): {value!r}.") from error
    if "\x00" in value:
        raise PayloadError(f"Attribute {key!r} has a NUL character, which databases cannot store: {value!r}.")
    return Attribute(value, Indexed(text=value))


def _bool(key: str, value: bool) -> Attribute:
    return Attribute(value, Indexed(number=float(value)))


def _int(key: str, value: int) -> Attribute:
    try:
        return Attribute(int(value), Indexed(number=float(value)))
    except OverflowError as error:
        raise PayloadError(f"Attribute {key!r} is a number with {len(str(value))} digits. Give it as text.") from error


def _float(key: str, value: float) -> Attribute:
    if not math.isfinite(value):
        raise PayloadError(f"Attribute {key!r} is {value!r}, which cannot be stored. Leave it out, or use text.")
    return Attribute(float(value), Indexed(number=float(value)))


def _decimal(key: str, value: Decimal) -> Attribute:
    return Attribute({"decimal": str(value)}, _float(key, float(value)).indexed)


def _datetime(key: str, value: datetime) -> Attribute:
    if value.utcoffset() is None:
        raise PayloadError(f"Attribute {key!r} needs a datetime with a time zone; {value!r} has none.")
    value = value.astimezone(UTC)
    return Attribute({"datetime": value.isoformat()}, Indexed(time=value))


def _date(key: str, value: date) -> Attribute:
    return Attribute({"date": value.isoformat()}, Indexed(time=datetime.combine(value, time(), UTC)))


def _uuid(key: str, value: UUID) -> Attribute:
    return Attribute({"uuid": str(value)}, Indexed(text=str(value)))


# In this order: a bool is an int, a datetime is a date.
_FORMS: tuple[tuple[type, Any], ...] = (
    (str, _text),
    (bool, _bool),
    (int, _int),
    (float, _float),
    (Decimal, _decimal),
    (datetime, _datetime),
    (date, _date),
    (UUID, _uuid),
)
_READERS: dict[str, Any] = {
    "decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "uuid": UUID,
}
