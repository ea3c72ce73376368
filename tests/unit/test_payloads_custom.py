"""Types of the application's own, taught by ``durable.payload_type``."""

from __future__ import annotations

import pytest

from django_durable import DefinitionError, PayloadError, durable
from django_durable.payloads import codec, custom


class Money:
    def __init__(self, cents: int) -> None:
        if cents < 0:
            raise ValueError("less than nothing")
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and self.cents == other.cents

    def __hash__(self) -> int:
        return hash(self.cents)


class Tip(Money):
    pass


@pytest.fixture(autouse=True)
def _taught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom, "_conversions", {})
    durable.payload_type(Money, encode=lambda money: {"cents": money.cents}, decode=lambda value: Money(value["cents"]))


def test_a_value_comes_back_as_its_type_also_inside_of_others() -> None:
    stored = codec.encode([Money(5), Money(7)], what="it")

    assert bytes(stored.data) == b'[{"cents":5},{"cents":7}]'
    assert codec.decode(stored, list[Money], what="it") == [Money(5), Money(7)]
    assert codec.decode(codec.encode(None, what="it"), Money | None, what="it") is None


def test_a_type_that_was_taught_is_known_to_be_read_back() -> None:
    assert codec.unreadable(list[Money | None]) is None
    assert codec.unreadable(dict[str, Tip]) is Tip


def test_a_subclass_is_stored_as_what_was_taught() -> None:
    assert codec.decode(codec.encode(Tip(3), what="it"), Money, what="it") == Money(3)


def test_what_cannot_be_made_again_is_a_payload_error() -> None:
    with pytest.raises(PayloadError, match="less than nothing"):
        codec.decode(codec.encode({"cents": -1}, what="it"), Money, what="it")


def test_what_encode_gives_must_be_storable_itself() -> None:
    durable.payload_type(Money, encode=lambda money: object(), decode=Money)
    with pytest.raises(PayloadError, match="object"):
        codec.encode(Money(1), what="it")


def test_wrong_registrations_are_refused() -> None:
    with pytest.raises(DefinitionError, match="takes a class"):
        durable.payload_type("Money", encode=str, decode=str)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="decode must be a function"):
        durable.payload_type(Money, encode=str, decode=None)  # type: ignore[arg-type]
