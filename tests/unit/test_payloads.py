"""Values that are stored come back as they were, or are refused with a message that says where and why."""

from __future__ import annotations

import dataclasses
import enum
import logging
import math
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_durable.exceptions import PayloadError
from django_durable.payloads import codec, limits, walk
from django_durable.payloads.payload import NULL, Payload

ROOT = Path(__file__).resolve().parents[2]
WHAT = "The result of shop.f"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass(frozen=True)
class Line:
    sku: str
    price: Decimal
    tags: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Order:
    lines: list[Line]
    placed: datetime
    colour: Colour = Colour.RED


class Point(NamedTuple):
    x: int
    y: int


class Renamed(msgspec.Struct, rename="camel"):
    some_tags: set[str]


class Listed(msgspec.Struct, array_like=True, tag=True):
    tags: set[str]


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self


class Pydantic:
    """Looks like a pydantic model to the codec, as far as it looks."""

    __pydantic_validator__ = object()

    def __init__(self, *, number: int, tags: set[str]) -> None:
        self.number = number
        self.tags = tags

    def model_dump(self, mode: str) -> dict[str, Any]:
        assert mode == "json"
        return {"number": self.number, "tags": list(self.tags)}

    @classmethod
    def model_validate(cls, value: dict[str, Any]) -> Pydantic:
        if not isinstance(value["number"], int):
            raise ValueError("number is not a number")
        return cls(number=value["number"], tags=set(value["tags"]))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_source", limits._Source())
    limits.read_from(lambda: limits.Limits(max_bytes=100, warn_bytes=50))


def stored(value: Any) -> str:
    return bytes(codec.encode(value, what=WHAT).data).decode()


def refusal(value: Any) -> str:
    with pytest.raises(PayloadError) as caught:
        codec.encode(value, what=WHAT)
    assert str(caught.value).startswith(WHAT)
    return str(caught.value)


ORDER = Order([Line("a", Decimal("1.10"), frozenset({"x", "y"}))], datetime(2024, 1, 1, 12, 0, 0, 123456, tzinfo=UTC))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (ORDER, Order),
        (timedelta(days=3, microseconds=1), timedelta),
        (timedelta(days=-3, microseconds=1), timedelta),
        (date(2024, 2, 29), date),
        (datetime(2024, 2, 29, 1, 2, 3), datetime),
        (UUID(int=5), UUID),
        (Colour.BLUE, Colour),
        (Level.LOW, Level),
        ({1, 2, 3}, set[int]),
        (frozenset({"a"}), frozenset[str]),
        ((1, "a"), tuple[int, str]),
        (Point(1, 2), Point),
        (b"\x00\xff", bytes),
        (10**40, int),
        (-(2**70), Any),
        (2**64, float | int),
        (0.1 + 0.2, float),
        (None, int | None),
        ({"a": [None, {"b": None}]}, Any),
        ({1: "a"}, dict[int, str]),
        ({Colour.RED: 1}, dict[Colour, int]),
        ("\\u0000 spelled out", str),
        ("nullable", str),
    ],
)
def test_a_value_comes_back_equal_and_of_its_type(value: Any, kind: Any) -> None:
    again = codec.decode(codec.encode(value, what=WHAT), kind, what=WHAT)
    assert again == value
    assert type(again) is type(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
@settings(max_examples=200, deadline=None)
def test_any_json_value_comes_back_equal_or_is_refused_for_its_nul(value: Any) -> None:
    has_nul = walk.find(value, lambda item: isinstance(item, str) and "\x00" in item) is not None
    if has_nul:
        assert "NUL" in refusal(value)
    else:
        assert codec.decode(codec.encode(value, what=WHAT), Any, what=WHAT) == value


@given(st.recursive(st.floats() | st.none() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3)))
@settings(max_examples=200, deadline=None)
def test_no_number_ever_becomes_null(value: Any) -> None:
    bad = walk.find(value, lambda item: isinstance(item, float) and not math.isfinite(item)) is not None
    if bad:
        with pytest.raises(PayloadError):
            codec.encode(value, what=WHAT)
    elif walk.find(value, lambda item: isinstance(item, str) and "\x00" in item) is None:
        assert codec.decode(codec.encode(value, what=WHAT), Any, what=WHAT) == value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (math.nan, "$"),
        (math.inf, "$"),
        ([1, {"a": -math.inf}], "$[1].a"),
        (Line("a", math.nan), "$.price"),  # type: ignore[arg-type]
        ({"null": None, "b": (None, math.nan)}, "$.b[1]"),
        (Renamed({math.nan}), "$.some_tags[…]"),  # type: ignore[arg-type]
    ],
)
def test_nan_and_infinities_are_refused_with_their_path(value: Any, path: str) -> None:
    assert f"at {path}," in refusal(value)


@pytest.mark.parametrize("value", ["a\x00b", ["\\\x00"], {"\x00": 1}, {"a": "\\\\\x00"}, Colour("red").value + "\x00"])
def test_nul_is_refused(value: Any) -> None:
    assert "NUL" in refusal(value)


def test_lone_surrogates_are_refused_with_their_path() -> None:
    assert "surrogate" in refusal({"a": ["\ud800"]})
    assert "$.a[0]" in refusal({"a": ["\ud800"]})


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    assert "contains itself" in refusal(value)


def test_a_value_that_is_nested_too_deeply_is_refused() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert "too deeply" in refusal(value)


class FakeModel:
    _meta = object()
    pk = 5


@pytest.mark.parametrize(
    ("value", "type_name", "advice"),
    [
        (FakeModel(), "FakeModel", "primary key"),
        ((number for number in [1]), "generator", "list"),
        (ValueError("x"), "ValueError", "str()"),
        (1j, "complex", "dataclasses"),
        (print, "builtin_function_or_method", "not code"),
        (Colour, "EnumType", "instance"),
    ],
)
def test_an_unsupported_type_is_named_with_its_path_and_what_to_do(value: Any, type_name: str, advice: str) -> None:
    message = refusal({"list": [1, value]})
    assert type_name in message or type(value).__name__ in message
    assert "(at $.list[1])" in message
    assert advice in message


def test_dicts_need_keys_that_are_text_or_numbers() -> None:
    assert "(at $.a)" in refusal({"a": {(1, 2): 3}})


def test_subclasses_of_text_are_stored_as_text() -> None:
    assert stored([Text("a"), Text("b")]) == '["a","b"]'
    assert type(codec.decode(codec.encode(Text("a"), what=WHAT), Text, what=WHAT)) is Text


def test_pydantic_models_are_stored_and_read_through_their_own_methods() -> None:
    value = Pydantic(number=1, tags={"b", "a"})
    assert stored(value) == '{"number":1,"tags":["a","b"]}'
    again = codec.decode(codec.encode([value], what=WHAT), list[Pydantic], what=WHAT)[0]
    assert (again.number, again.tags) == (1, {"a", "b"})
    with pytest.raises(PayloadError, match=r"number is not a number - at `\$\[0\]`"):
        codec.decode(codec.encode([{"number": "x"}], what=WHAT), list[Pydantic], what=WHAT)


def test_real_pydantic_models_come_back_equal() -> None:
    pydantic = pytest.importorskip("pydantic")
    model: Any = pydantic.create_model("Model", at=(datetime, ...), total=(Decimal, ...), tags=(set[str], ...))
    value = model(at=datetime(2024, 1, 1, tzinfo=UTC), total=Decimal("1.10"), tags={"b", "a"})
    assert codec.decode(codec.encode({"m": value}, what=WHAT), dict[str, model], what=WHAT) == {"m": value}


SETS = """
from tests.unit.test_payloads import *
names = {f"name{i}" for i in range(20)}
line = Line("a", Decimal(1), frozenset(names))
print(stored([names, {"z": names, "a": {"x", 1, None}}, {Colour.RED, Colour.BLUE}]))
print(stored([line, {line, Line("b", Decimal(2))}]))
print(stored(Renamed(names)), stored([Listed(names)]), stored({frozenset(names), frozenset("ab")}))
"""


def test_sets_are_stored_in_the_same_order_by_every_process() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SETS],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    text = outputs.pop()
    assert '"z":["name0","name1","name10"' in text
    assert text.index('"z":') < text.index('"a":')
    assert '["Listed",["name0"' in text


def test_dicts_keep_their_own_order() -> None:
    assert stored({"b": [1], "a": {"d": {2, 1}, "c": 1}}) == '{"b":[1],"a":{"d":[1,2],"c":1}}'


def test_too_large_a_value_is_refused_with_its_size_and_the_limit(small: None) -> None:
    message = refusal("x" * 99)
    assert "101 bytes" in message
    assert "at most 100" in message
    assert stored("x" * 98) == f'"{"x" * 98}"'


def test_a_large_value_is_warned_of(small: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "django_durable"):
        stored("x" * 47)
        assert caplog.messages == []
        stored("x" * 48)
    assert [message for message in caplog.messages if "50 bytes" in message and WHAT in message]


def test_what_does_not_fit_its_annotation_is_refused_with_the_path() -> None:
    payload = codec.encode({"lines": [{"sku": "a", "price": "x"}], "placed": "2024-01-01T00:00:00Z"}, what=WHAT)
    with pytest.raises(PayloadError, match=r"The result of shop.f does not fit .*\$\.lines\[0\]\.price"):
        codec.decode(payload, Order, what=WHAT)


def test_a_format_of_a_later_release_is_refused() -> None:
    with pytest.raises(PayloadError, match="'cbor'"):
        codec.decode(Payload("cbor", NULL.data), Any, what=WHAT)


def test_a_type_that_json_cannot_give_back_is_refused() -> None:
    with pytest.raises(PayloadError, match="FakeModel"):
        codec.decode(codec.encode(1, what=WHAT), FakeModel, what=WHAT)


def test_limits_are_asked_for_once_until_they_are_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def source() -> limits.Limits:
        asked.append(1)
        return limits.Limits(max_bytes=len(asked))

    monkeypatch.setattr(limits, "_source", limits._Source())
    limits.read_from(source)
    assert [limits.current().max_bytes, limits.current().max_bytes] == [1, 1]
    limits.reset()
    assert limits.current().max_bytes == 2
