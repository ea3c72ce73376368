"""Protobuf messages round-trip as themselves: also what JSON could not say of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf import struct_pb2, timestamp_pb2, wrappers_pb2

from django_durable.exceptions import PayloadError
from django_durable.payloads import codec
from django_durable.payloads.signature import CallSignature

WHAT = "It"


def again(value: Any, kind: Any) -> Any:
    return codec.decode(codec.encode(value, what=WHAT), kind, what=WHAT)


def test_a_message_comes_back_as_itself() -> None:
    value = timestamp_pb2.Timestamp(seconds=2**40, nanos=7)
    assert again(value, timestamp_pb2.Timestamp) == value
    assert again([{"at": value}], list[dict[str, timestamp_pb2.Timestamp]]) == [{"at": value}]
    assert again(None, timestamp_pb2.Timestamp | None) is None


def test_what_json_has_no_word_for_survives() -> None:
    number = again(wrappers_pb2.DoubleValue(value=math.nan), wrappers_pb2.DoubleValue)
    assert math.isnan(number.value)
    unknown = timestamp_pb2.Timestamp.FromString(b"\x08\x01\x98\x06\x07")  # field 99, of a newer schema
    assert again(unknown, timestamp_pb2.Timestamp).SerializeToString() == b"\x08\x01\x98\x06\x07"


def test_maps_are_stored_in_the_same_order_however_they_were_filled() -> None:
    one, other = struct_pb2.Struct(), struct_pb2.Struct()
    one.update({"a": 1, "b": 2, "c": 3})
    other.update({"c": 3, "b": 2, "a": 1})
    assert codec.encode(one, what=WHAT) == codec.encode(other, what=WHAT)


def test_arguments_and_results_may_be_messages() -> None:
    def shift(at: timestamp_pb2.Timestamp, by: int = 1) -> timestamp_pb2.Timestamp:
        raise NotImplementedError

    signature = CallSignature(shift, name="shop.shift")
    value = timestamp_pb2.Timestamp(seconds=5)
    assert signature.decode_input(signature.encode_input((value,), {"by": 2})) == ((value, 2), {})
    assert signature.decode_result(signature.encode_result(value)) == value


def test_what_is_no_such_message_is_refused() -> None:
    with pytest.raises(PayloadError, match="does not fit its annotation"):
        again("not base64!", timestamp_pb2.Timestamp)
    with pytest.raises(PayloadError, match="does not fit its annotation"):
        again("////", timestamp_pb2.Timestamp)
    with pytest.raises(PayloadError, match="does not fit its annotation"):
        again({"seconds": 1}, timestamp_pb2.Timestamp)
