"""Inputs are stored under their parameters' names, and call the function again as it was called."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict, Unpack

import pytest
from django.contrib.auth.models import Group
from hypothesis import given, settings
from hypothesis import strategies as st

from django_durable.exceptions import DefinitionError, PayloadError
from django_durable.payloads.payload import json_payload
from django_durable.payloads.signature import CallSignature

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers


@dataclass(frozen=True)
class Money:
    amount: Decimal


@dataclass(frozen=True)
class Shelf:
    owner: CallSignature
    below: Shelf | None = None


class Options(TypedDict, total=False):
    gift: bool


def charge(order_id: int, cents: int) -> str: ...  # type: ignore[empty-body]


def optional(a: int, b: int = 5, c: Money | None = None, *, d: str = "d") -> None: ...


def everything(a: int, /, b: int = 1, *args: int, key: str, **kwargs: float) -> Any:
    return a, b, args, key, kwargs


def untyped(a, b=None):
    return a


def with_options(a: int, **options: Unpack[Options]) -> None: ...


def unresolvable(a: int, price: OnlyForCheckers) -> None: ...


def unresolvable_result(a: int) -> OnlyForCheckers: ...  # type: ignore[empty-body]


def impossible(a: Money | CallSignature) -> None: ...


def anything(a: object, b: dict[str, object], *rest: object) -> list[object]: ...  # type: ignore[empty-body]


def collections(
    a: Iterable[Decimal], b: Sequence[int], c: Mapping[str, Money], d: OrderedDict[int, Decimal]
) -> Iterable[Money] | None: ...


@dataclass(frozen=True)
class Label:
    price: OnlyForCheckers


def takes_a_class_with_a_name_for_checkers(label: Label) -> None: ...


def with_a_model(a: int, lines: dict[str, list[Group]]) -> None: ...


def gives_a_plain_class(a: int) -> Shelf: ...  # type: ignore[empty-body]


def takes_plain_classes(*shelves: CallSignature) -> None: ...


def never() -> NoReturn:
    raise ValueError


def signature(function: Any, **options: Any) -> CallSignature:
    return CallSignature(function, name=f"shop.{function.__name__}", **options)


def stored(function: Any, *args: Any, **kwargs: Any) -> str:
    return bytes(signature(function).encode_input(args, kwargs).data).decode()


def again(function: Any, *args: Any, **kwargs: Any) -> Any:
    codec = signature(function)
    return codec.decode_input(codec.encode_input(args, kwargs))


def test_arguments_are_stored_by_parameter_name() -> None:
    assert stored(charge, 1, 4200) == '{"order_id":1,"cents":4200}'


def test_it_does_not_matter_how_arguments_were_passed() -> None:
    assert stored(charge, cents=4200, order_id=1) == stored(charge, 1, cents=4200) == stored(charge, 1, 4200)
    assert stored(everything, 1, key="x") == '{"a":1,"key":"x"}'


def test_omitted_arguments_are_left_to_the_function() -> None:
    assert stored(optional, 1) == '{"a":1}'
    assert again(optional, 1) == ((1,), {})


def test_arguments_after_an_omitted_one_come_by_name() -> None:
    assert again(optional, 1, c=Money(Decimal("1.5")), d="x") == ((1,), {"c": Money(Decimal("1.5")), "d": "x"})


def test_star_arguments_are_stored_under_their_own_names() -> None:
    assert stored(everything, 1, 2, 3, 4, key="x", z=1.5) == '{"a":1,"b":2,"args":[3,4],"key":"x","kwargs":{"z":1.5}}'


def test_keywords_typed_by_a_typed_dict_are_checked() -> None:
    assert again(with_options, 1, gift=True) == ((1,), {"gift": True})
    with pytest.raises(PayloadError, match="gift"):
        stored(with_options, 1, gift="yes")


@given(
    st.lists(st.integers(), min_size=1, max_size=5),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00")),
    st.dictionaries(st.sampled_from(["a", "x", "args", "kwargs", "self"]), st.floats(0, 9)),
)
@settings(max_examples=100, deadline=None)
def test_a_call_is_repeated_exactly(args: list[int], key: str, kwargs: dict[str, float]) -> None:
    given_args, given_kwargs = again(everything, *args, key=key, **kwargs)
    function: Any = everything
    assert function(*given_args, **given_kwargs) == function(*args, key=key, **kwargs)


def test_leading_parameters_can_be_left_out() -> None:
    payload = signature(charge, skip=1).encode_input((5,), {})
    assert bytes(payload.data) == b'{"cents":5}'


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "told"),
    [
        (charge, (), {}, "missing a required argument: 'order_id'"),
        (charge, (1,), {}, "missing a required argument: 'cents'"),
        (charge, (1, 2, 3), {}, "too many positional arguments"),
        (charge, (1, 2), {"cent": 3}, "unexpected keyword argument 'cent'"),
        (charge, (1, 2), {"cents": 3}, "multiple values for argument 'cents'"),
        (everything, (1,), {}, "key"),
    ],
)
def test_a_call_that_python_would_refuse_is_refused_with_both_names(
    function: Any, args: Any, kwargs: Any, told: str
) -> None:
    with pytest.raises(TypeError, match=told) as caught:
        signature(function).encode_input(args, kwargs)
    assert f"shop.{function.__name__}" in str(caught.value)


def test_an_argument_of_the_wrong_type_is_refused_with_definition_and_parameter() -> None:
    with pytest.raises(PayloadError, match=r"The input of shop.charge .*`int`, got `str` - at `\$\.cents`"):
        signature(charge).encode_input((1, "x"), {})


def test_a_result_of_the_wrong_type_is_refused_where_it_is_made() -> None:
    with pytest.raises(PayloadError, match=r"The result of shop.charge .*`str`, got `null`"):
        signature(charge).encode_result(None)


def test_results_come_back() -> None:
    codec = signature(charge)
    assert codec.decode_result(codec.encode_result("receipt")) == "receipt"


def test_without_annotations_anything_json_goes() -> None:
    assert again(untyped, {"a": [1]}, b="x") == (({"a": [1]}, "x"), {})
    codec = signature(untyped)
    assert codec.decode_result(codec.encode_result((1, 2))) == [1, 2]


def test_a_function_that_never_returns_still_has_a_signature() -> None:
    assert again(never) == ((), {})
    assert signature(never).decode_result(json_payload(b"null")) is None


def test_an_argument_that_code_no_longer_takes_is_not_dropped_in_silence() -> None:
    with pytest.raises(PayloadError, match="unknown field `gift`"):
        signature(charge).decode_input(json_payload(b'{"order_id":1,"cents":2,"gift":true}'))


def test_an_argument_that_code_has_come_to_need_is_missed() -> None:
    with pytest.raises(PayloadError, match="missing required field `cents`"):
        signature(charge).decode_input(json_payload(b'{"order_id":1}'))


@pytest.mark.parametrize(("function", "where"), [(unresolvable, "parameter 'price'"), (impossible, "parameter 'a'")])
def test_an_annotation_that_cannot_be_used_is_named_on_first_use(function: Any, where: str) -> None:
    codec = signature(function)
    with pytest.raises(DefinitionError, match=where) as caught:
        codec.encode_input((1, 2), {})
    assert f"shop.{function.__name__}" in str(caught.value)


def test_an_unresolvable_result_does_not_spoil_the_input() -> None:
    codec = signature(unresolvable_result)
    assert codec.decode_input(codec.encode_input((1,), {})) == ((1,), {})
    with pytest.raises(DefinitionError, match="the return value"):
        codec.encode_result(1)


def test_a_skipped_parameter_may_be_unresolvable() -> None:
    def body(ctx: OnlyForCheckers, order_id: int) -> None: ...

    assert CallSignature(body, name="x", skip=1).encode_input((1,), {}).data


def test_object_is_read_as_plain_values() -> None:
    given = (1, {"x": [Decimal("1.5"), None]}, "y", {"z": 2})
    assert again(anything, *given) == ((1, {"x": ["1.5", None]}, "y", {"z": 2}), {})
    codec = signature(anything)
    assert codec.decode_result(codec.encode_result([1, "x", {"y": [2]}])) == [1, "x", {"y": [2]}]


def test_abstract_collections_come_back_as_lists_and_dicts() -> None:
    money = Money(Decimal("1.10"))
    given = ((Decimal("2.5"),), (1, 2), OrderedDict(x=money), OrderedDict([(7, Decimal(1)), (3, Decimal(2))]))
    (a, b, c, d), _ = again(collections, *given)
    assert (a, b, c, d) == ([Decimal("2.5")], [1, 2], {"x": money}, given[3])
    assert (type(c), type(d)) == (dict, OrderedDict)
    codec = signature(collections)
    assert codec.decode_result(codec.encode_result([money])) == [money]
    assert codec.decode_result(codec.encode_result(None)) is None


def test_an_item_that_does_not_fit_an_abstract_collection_is_refused() -> None:
    with pytest.raises(PayloadError, match="does not fit its annotation"):
        again(collections, ["x"], [], {}, OrderedDict())


@pytest.mark.parametrize(
    ("function", "where", "kind"),
    [
        (
            with_a_model,
            "parameter 'lines'",
            "Group cannot be read back from JSON; use the type of its primary key",
        ),
        (gives_a_plain_class, "the return value", "type CallSignature cannot be read back"),
        (takes_plain_classes, "parameter 'shelves'", "type CallSignature cannot be read back"),
        (unresolvable, "parameter 'price'", "OnlyForCheckers"),
        (takes_a_class_with_a_name_for_checkers, "parameter 'label'", "OnlyForCheckers"),
    ],
)
def test_types_that_are_not_read_back_are_found_before_a_value_comes(function: Any, where: str, kind: str) -> None:
    with pytest.raises(DefinitionError, match=rf"shop.{function.__name__}: the annotation of {where} .*{kind}"):
        signature(function).check()


@pytest.mark.parametrize(
    "function", [charge, optional, everything, untyped, with_options, anything, collections, never]
)
def test_types_that_are_read_back_pass(function: Any) -> None:
    signature(function).check()
