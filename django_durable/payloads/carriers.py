"""Structs that carry payloads in their fields, such as events and messages: all of one sealed or opened at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, get_args

import msgspec

from django_durable.payloads import payload
from django_durable.payloads.packing import JSON
from django_durable.payloads.payload import Payload

S = TypeVar("S", bound=msgspec.Struct)

_Change = Callable[[Payload, str], Payload]  # of a payload and the words for it in an error


class Carriers:
    """Knows for some kinds of structs which of their fields hold payloads, or other carriers."""

    def __init__(self, kinds: Iterable[type[msgspec.Struct]]) -> None:
        self._fields: dict[type[msgspec.Struct], tuple[str, ...]] = {}
        for kind in kinds:
            self._learn(kind)

    def sealed(self, carrier: S) -> S:
        """The same with its payloads as the settings want them stored."""
        return self._changed(carrier, lambda one, what: payload.sealed(one))

    def opened(self, carrier: S) -> S:
        """The same with its payloads as JSON. Raises ``PayloadUnreadable``."""
        return self._changed(carrier, lambda one, what: payload.opened(one, what=what))

    def embedded(self, carrier: S) -> S:
        """The same with its payloads as if nothing were kept elsewhere. Raises ``PayloadUnreadable``."""
        return self._changed(carrier, lambda one, what: payload.embedded(one))

    def offloaded(self, carrier: msgspec.Struct) -> list[Payload]:
        """Those of its payloads that are kept elsewhere."""
        found: list[Payload] = []

        def note(one: Payload, what: str) -> Payload:
            if payload.is_offloaded(one):
                found.append(one)
            return one

        self._changed(carrier, note)
        return found

    def is_sealed(self, carrier: msgspec.Struct) -> bool:
        """Whether ``opened`` may change anything. Asked for every event that is read, so it looks no deeper."""
        for name in self._fields.get(type(carrier), ()):
            value = getattr(carrier, name)
            if value and (type(value) is not Payload or value.format != JSON):
                return True
        return False

    def _changed(self, carrier: S, change: _Change) -> S:
        kind = type(carrier)
        fields = {name: value for name in self._fields.get(kind, ()) if (value := getattr(carrier, name))}
        changed = {name: self._part(value, f"The {name} of {kind.__name__}", change) for name, value in fields.items()}
        return msgspec.structs.replace(carrier, **changed) if changed else carrier

    def _part(self, value: Any, what: str, change: _Change) -> Any:
        if isinstance(value, Payload):
            return change(value, what)
        if isinstance(value, tuple):
            return tuple(self._part(item, what, change) for item in value)
        return self._changed(value, change)

    def _learn(self, kind: type[msgspec.Struct]) -> bool:
        """Whether structs of ``kind`` carry payloads."""
        if kind not in self._fields:
            self._fields[kind] = ()  # for the kinds that may hold one of themselves
            self._fields[kind] = tuple(
                field.name for field in msgspec.structs.fields(kind) if self._carries(field.type)
            )
        return bool(self._fields[kind])

    def _carries(self, annotation: Any) -> bool:
        if annotation is Payload:
            return True
        if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
            return self._learn(annotation)
        carrying = [self._carries(part) for part in get_args(annotation)]  # every part is to be learnt
        return any(carrying)
