"""What JSON can hold as one protobuf message, ``django_durable.Value``, for readers in any language.

``google.protobuf.Value`` would not do: it turns whole numbers into fractions and loses the order of keys. The schema
is built here instead of being compiled, so that it fits every release of protobuf; ``docs/payloads.md`` shows it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto

_SCALARS = {
    "null": _Field.TYPE_BOOL,
    "boolean": _Field.TYPE_BOOL,
    "integer": _Field.TYPE_SINT64,
    "number": _Field.TYPE_DOUBLE,
    "text": _Field.TYPE_STRING,
}


def _schema() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="django_durable/value.proto", package="django_durable", syntax="proto3"
    )
    value = file.message_type.add(name="Value")
    value.oneof_decl.add(name="kind")
    for number, (name, kind) in enumerate(_SCALARS.items(), start=1):
        value.field.add(name=name, number=number, type=kind, label=_Field.LABEL_OPTIONAL, oneof_index=0)
    _add_message(value, "list", len(_SCALARS) + 1, "List", oneof_index=0)
    _add_message(value, "object", len(_SCALARS) + 2, "Object", oneof_index=0)
    _add_message(file.message_type.add(name="List"), "values", 1, "Value", label=_Field.LABEL_REPEATED)
    _add_message(file.message_type.add(name="Object"), "entries", 1, "Entry", label=_Field.LABEL_REPEATED)
    entry = file.message_type.add(name="Entry")
    entry.field.add(name="name", number=1, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    _add_message(entry, "value", 2, "Value")
    return file


def _add_message(to: Any, name: str, number: int, kind: str, **options: Any) -> None:
    options.setdefault("label", _Field.LABEL_OPTIONAL)
    to.field.add(name=name, number=number, type=_Field.TYPE_MESSAGE, type_name=f".django_durable.{kind}", **options)


_pool = descriptor_pool.DescriptorPool()  # of its own: the project's may be anything
_pool.Add(_schema())
_Value: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName("django_durable.Value"))


def write(value: Any) -> bytes:
    """Plain values as the bytes of a ``Value``. Raises for whole numbers of more than 64 bits."""
    message = _Value()
    _fill(message, value)
    packed: bytes = message.SerializeToString()
    return packed


def read(packed: bytes) -> Any:
    """The plain values again. Raises for bytes that are no ``Value``."""
    return _plain(_Value.FromString(packed))


def _fill(message: Any, value: Any) -> None:
    match value:
        case None:
            message.null = True
        case bool():
            message.boolean = value
        case int():
            message.integer = value
        case float():
            message.number = value
        case str():
            message.text = value
        case list():
            message.list.SetInParent()
            for item in value:
                _fill(message.list.values.add(), item)
        case dict():
            message.object.SetInParent()
            for name, item in value.items():
                entry = message.object.entries.add(name=name)
                _fill(entry.value, item)


def _plain(message: Any) -> Any:
    match message.WhichOneof("kind"):
        case "null":
            return None
        case "list":
            return [_plain(item) for item in message.list.values]
        case "object":
            return {entry.name: _plain(entry.value) for entry in message.object.entries}
        case None:
            raise ValueError("A Value without a kind was not written by django_durable.")
        case scalar:
            return getattr(message, scalar)
