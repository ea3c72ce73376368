"""Signals: named messages to a running workflow, with one typed payload."""

from __future__ import annotations

import types
import typing
from typing import Any, Generic, TypeVar

import msgspec

from django_durable.definitions import options as checks
from django_durable.payloads import codec
from django_durable.payloads.payload import NULL, Payload

T = TypeVar("T")


class SignalMessage(msgspec.Struct, frozen=True):
    """A signal on its way: its name and its stored payload."""

    name: str
    payload: Payload


class SignalDefinition(Generic[T]):
    """A declared signal. Calling it makes a message: ``rated(5)``."""

    def __init__(self, name: str, type: Any = Any) -> None:
        """``type`` is the annotation of the payload. Raises ``TypeError`` if it is none."""
        checks.check_text(name, what="The name of a signal")
        if not is_annotation(type):
            raise TypeError(
                f"durable.signal({name!r}, ...) declares a signal, so its second argument is the payload's type, "
                f"not {type!r}. To send one: durable.signal_workflow(workflow_id, {name!r}, {type!r})."
            )
        self.name = name
        self.type = type
        self._what = f"The payload of signal {name!r}"

    def __call__(self, payload: T | None = None) -> SignalMessage:
        """A message with ``payload``. Raises ``PayloadError`` if it cannot be stored or is not of the type."""
        stored = NULL if payload is None else codec.encode(payload, what=self._what)
        self.decode(stored)
        return SignalMessage(self.name, stored)

    def __repr__(self) -> str:
        return f"<signal {self.name}>"

    def decode(self, payload: Payload) -> T:
        """The payload of a received signal. Raises ``PayloadError`` if it does not fit the type."""
        value: T = codec.decode(payload, self.type, what=self._what)
        return value


def is_annotation(value: Any) -> bool:
    """Whether ``value`` can stand for a type: a class, a generic, a union, ``Any`` or None."""
    return (
        value is None
        or value is Any
        or isinstance(value, type | types.UnionType | typing.NewType)
        or typing.get_origin(value) is not None
        or isinstance(value, getattr(typing, "TypeAliasType", ()))
    )


def as_message(signal: str | SignalDefinition[Any] | SignalMessage, payload: Any = None) -> SignalMessage:
    """What a verb that sends was given, as a message.

    Raises ``TypeError`` for what is no signal, and for a payload beside a ready message.
    """
    if isinstance(signal, SignalMessage):
        if payload is not None:
            raise TypeError(f"The message {signal.name!r} carries its payload already; {payload!r} would be a second.")
        return signal
    if isinstance(signal, str):
        signal = SignalDefinition(signal)
    if not isinstance(signal, SignalDefinition):
        raise TypeError(
            f'A signal is a name, durable.signal("name", type), or a message that such a one made, not {signal!r}.'
        )
    return signal(payload)
