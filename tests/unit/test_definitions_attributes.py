"""Search attributes: which values there are, and how they are kept and found."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from django_durable.definitions import attributes
from django_durable.definitions.attributes import Indexed
from django_durable.definitions.subject import Subject, subject_of
from django_durable.exceptions import DefinitionError, PayloadError


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = UUID("018f0000-0000-7000-8000-000000000001")


@pytest.mark.parametrize(
    ("value", "back", "indexed"),
    [
        ("Zoë", "Zoë", Indexed(text="Zoë")),
        ("", "", Indexed(text="")),
        (7, 7, Indexed(number=7.0)),
        (True, True, Indexed(number=1.0)),
        (0.5, 0.5, Indexed(number=0.5)),
        (Decimal("19.90"), Decimal("19.90"), Indexed(number=19.9)),
        (NOON, NOON, Indexed(time=NOON)),
        (NOON.astimezone(timezone(timedelta(hours=2))), NOON, Indexed(time=NOON)),
        (date(2026, 3, 1), date(2026, 3, 1), Indexed(time=datetime(2026, 3, 1, tzinfo=UTC))),
        (ID, ID, Indexed(text=str(ID))),
        (Colour.RED, "red", Indexed(text="red")),
        (Size.BIG, 3, Indexed(number=3.0)),
    ],
)
def test_a_value_comes_back_as_it_was_and_is_found_in_one_column(value, back, indexed):
    attribute = attributes.encode("key", value)
    assert attribute.indexed == indexed
    read = attributes.load(attributes.dump(attribute))
    assert (read, type(read)) == (back, type(back))


@pytest.mark.parametrize(
    "value",
    [
        [1],
        {"a": 1},
        b"bytes",
        object(),
        datetime(2026, 3, 1),
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        "x" * 256,
        "a\x00b",
        "\ud800",
        10**400,
    ],
)
def test_what_cannot_be_searched_is_refused_with_its_name(value):
    with pytest.raises(PayloadError, match="'customer'"):
        attributes.encode("customer", value)


def test_a_model_instance_is_told_the_right_way():
    with pytest.raises(PayloadError, match="subject="):
        attributes.encode("order", SimpleNamespace(_meta=None, pk=7))


@pytest.mark.parametrize("key", ["", "a" * 101, "created__at", "line\nbreak", 7])
def test_a_name_that_cannot_be_one_is_refused(key: Any):
    with pytest.raises(DefinitionError):
        attributes.checked({key: 1}, owner="a test")


def test_attributes_are_a_mapping():
    wrong: Any = [("a", 1)]
    with pytest.raises(DefinitionError, match="dict"):
        attributes.checked(wrong, owner="a test")


def model_instance(pk: Any, *, adding: bool = False) -> Any:
    meta = SimpleNamespace(label_lower="shop.order", object_name="Order")
    meta.concrete_model = SimpleNamespace(_meta=meta)
    return SimpleNamespace(_meta=meta, pk=pk, _state=SimpleNamespace(adding=adding))


def test_a_row_is_a_subject_by_the_label_of_its_model_and_its_key():
    subject = subject_of(model_instance(7), owner="a test")
    assert subject == Subject(type="shop.order", id="7")
    assert subject_of(subject, owner="a test") is subject


@pytest.mark.parametrize("instance", [model_instance(None), model_instance(ID, adding=True)])
def test_a_row_that_is_not_saved_is_no_subject(instance):
    with pytest.raises(DefinitionError, match="Order, is not saved yet"):
        subject_of(instance, owner="a test")


@pytest.mark.parametrize("value", [7, "shop.order", object()])
def test_only_rows_are_subjects(value):
    with pytest.raises(DefinitionError, match="instance of a model"):
        subject_of(value, owner="a test")


def test_a_subject_whose_key_is_too_long_is_refused():
    with pytest.raises(DefinitionError, match="too long"):
        subject_of(model_instance("x" * 256), owner="a test")
