"""Values <-> JSON text, through msgspec.

A value that cannot be stored exactly is refused here, before anything is written. msgspec itself writes NaN and
infinities as ``null`` without a word, leaves the order of a set to the hash seed of the process (so that a replay
elsewhere would ask for other bytes than history holds), and passes NUL through, which PostgreSQL cannot store. The
checks for these look at the encoded text first, so that ordinary values pay next to nothing.
"""

from __future__ import annotations

import base64
import logging
import math
import re
import types
import typing
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec
import msgspec.inspect

from django_durable.exceptions import PayloadError
from django_durable.payloads import custom, limits, unsupported, walk
from django_durable.payloads.packing import JSON
from django_durable.payloads.payload import Payload, opened

logger = logging.getLogger("django_durable")

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # an odd number of backslashes: the character, not its spelling
_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def _encode_other(value: Any) -> Any:
    """What msgspec does not know: own types, subclasses of plain types, pydantic models and protobuf messages."""
    own = custom.of_value(value)
    if own is not None:
        return own.encode(value)
    for plain, convert in _PLAIN:
        if isinstance(value, plain):
            return convert(value)
    if hasattr(type(value), "__pydantic_validator__"):
        return _pydantic_fields(value)
    if _is_protobuf(type(value)):
        return base64.b64encode(value.SerializeToString(deterministic=True)).decode()
    raise TypeError(unsupported.describe(value))


def _is_protobuf(kind: Any) -> bool:
    """Whether ``kind`` is a class of protobuf messages, which need no import here: they know how they are stored."""
    return isinstance(kind, type) and hasattr(kind, "DESCRIPTOR") and hasattr(kind, "FromString")


_PLAIN: tuple[tuple[type, Any], ...] = (
    (str, str.__str__),  # django.utils.safestring.SafeString is one; its own __str__ returns itself
    (int, int.__int__),
    (float, float.__float__),
)


def _pydantic_fields(model: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = model.model_dump(mode="json")
    for name, value in walk.fields(model):
        if isinstance(value, set | frozenset) and isinstance(dumped.get(name), list):
            dumped[name] = sorted(dumped[name], key=_encoder.encode)
    return dumped


def _decode_other(kind: Any, value: Any) -> Any:
    make = _maker_of(kind)
    if make is None:
        raise TypeError(unsupported.describe_type(kind))
    return make(value)


def _maker_of(kind: Any) -> Callable[[Any], Any] | None:
    """What makes a value of ``kind``, which msgspec does not know, of what JSON holds; None: nothing does."""
    own = custom.of_type(kind)
    if own is not None:
        return own.decode
    if kind is object:  # as ``Any``
        return lambda value: value
    if hasattr(kind, "__pydantic_validator__"):
        return typing.cast("Callable[[Any], Any]", kind.model_validate)
    if _is_protobuf(kind):
        return lambda value: kind.FromString(base64.b64decode(value, validate=True))
    if isinstance(kind, type) and issubclass(kind, str | int | float):
        return kind
    if (typing.get_origin(kind) or kind) in _COLLECTIONS:
        return partial(_collection, kind)
    return None


_COLLECTIONS: dict[Any, type] = {Iterable: list, OrderedDict: dict}


def _collection(kind: Any, value: Any) -> Any:
    origin, parts = typing.get_origin(kind) or kind, typing.get_args(kind)
    plain = types.GenericAlias(_COLLECTIONS[origin], parts) if parts else _COLLECTIONS[origin]
    made = msgspec.convert(value, plain, str_keys=True, dec_hook=_decode_other)
    return origin(made) if origin is OrderedDict else made


_encoder = msgspec.json.Encoder(enc_hook=_encode_other)
_sorting_encoder = msgspec.json.Encoder(enc_hook=_encode_other, order="deterministic")
_encode = _encoder.encode
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def encode(value: Any, *, what: str) -> Payload:
    """Store ``value`` as JSON.

    ``what`` begins the message of a ``PayloadError``: "The result of shop.charge_card". One is raised for whatever
    JSON text cannot hold exactly: NaN and infinities, NUL, lone surrogates, cycles, unknown types, too many bytes.
    """
    try:
        text = _encode(value)
        if b"[" in text:
            text = _stable(value, text)
    except Exception as error:
        raise _refusal(value, error, what) from error
    if b"null" in text:
        _refuse_non_finite(value, what)
    if b"\\u0000" in text and _NUL.search(text):
        _refuse_nul(value, what)
    limit = limits.current()
    if len(text) >= limit.warn_bytes:
        _judge_size(len(text), limit, what)
    return Payload(JSON, msgspec.Raw(text))


def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """What reads JSON text as the annotation ``kind``. Raises ``TypeError`` for one that cannot work."""
    try:
        found = _decoders.get(kind)
    except TypeError:  # unhashable, such as Annotated[int, {...}]
        return msgspec.json.Decoder(kind, dec_hook=_decode_other)
    if found is None:
        found = _decoders[kind] = msgspec.json.Decoder(kind, dec_hook=_decode_other)
    return found


def unreadable(kind: Any) -> Any:
    """The type in the annotation ``kind`` whose values could not be read back; None if all can.

    Raises ``TypeError`` for an annotation that cannot work at all.
    """
    for _, part in walk.places(msgspec.inspect.type_info(kind)):
        if isinstance(part, msgspec.inspect.CustomType) and _maker_of(part.cls) is None:
            return part.cls
    return None


def decode(payload: Payload, kind: Any = Any, *, what: str) -> Any:
    """The stored value, as the annotation ``kind``. Raises ``PayloadError`` if it does not fit.

    A sealed one is opened: that raises ``PayloadUnreadable`` if its key or codec is missing.
    """
    return read(decoder(kind), payload, what=what)


def read(with_decoder: msgspec.json.Decoder[Any], payload: Payload, *, what: str) -> Any:
    """The stored value through a decoder that the caller keeps."""
    if payload.format != JSON:
        payload = opened(payload, what=what)
    try:
        return with_decoder.decode(payload.data)
    except RecursionError as error:
        raise PayloadError(f"{what} is nested too deeply to be read. Flatten it.") from error
    except Exception as error:  # a type's own __post_init__ or validator may raise anything
        raise PayloadError(f"{what} does not fit its annotation: {error}") from error


def _stable(value: Any, text: bytes) -> bytes:
    """``text``, in which sets have the same order in every process, and dicts keep their own."""
    try:
        if _sorting_encoder.encode(value) == text:
            return text
    except TypeError:  # a set of what cannot be compared; nothing else here can be out of order
        pass
    if walk.find(value, lambda item: isinstance(item, set | frozenset)) is None:
        return text
    return _encode(_with_sorted_sets(value, _ANY.decode(text)))


def _with_sorted_sets(value: Any, tree: Any) -> Any:
    """``tree`` is the decoded JSON of ``value``; both are walked side by side to see which arrays were sets."""
    if isinstance(value, set | frozenset):
        return sorted((_with_sorted_sets(*pair) for pair in zip(value, tree, strict=True)), key=_encode)
    if isinstance(value, list | tuple):
        return [_with_sorted_sets(*pair) for pair in zip(value, tree, strict=True)]
    if isinstance(value, dict):
        pairs = zip(value.values(), tree.values(), strict=True)
        return {key: _with_sorted_sets(*pair) for key, pair in zip(tree, pairs, strict=True)}
    if isinstance(tree, dict):
        return tree | {name: _with_sorted_sets(item, tree[name]) for name, item in _named_fields(value) if name in tree}
    if isinstance(value, msgspec.Struct) and isinstance(tree, list):
        own = [getattr(value, name) for name in value.__struct_fields__]
        return tree[: len(tree) - len(own)] + [
            _with_sorted_sets(*pair) for pair in zip(own, tree[len(tree) - len(own) :], strict=True)
        ]
    return tree


def _named_fields(value: Any) -> list[tuple[str, Any]]:
    """Fields under the names that they have in JSON."""
    if isinstance(value, msgspec.Struct):
        renamed = dict(zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True))
        return [(renamed[name], item) for name, item in walk.fields(value)]
    return list(walk.fields(value))


def _refusal(value: Any, error: Exception, what: str) -> PayloadError:
    if isinstance(error, RecursionError):
        return PayloadError(f"{what} contains itself, or is nested too deeply to be stored. Flatten it.")
    if isinstance(error, UnicodeEncodeError):
        path = walk.find(value, _has_surrogate)
        return PayloadError(
            f"{what} has text with a lone surrogate (half of a character) at {path}, which UTF-8 cannot hold. "
            f'Clean it first: text.encode("utf-8", "replace").decode().'
        )
    path = walk.find(value, unsupported.is_unsupported)
    return PayloadError(f"{what} cannot be stored as JSON{f' (at {path})' if path else ''}: {error}")


def _refuse_non_finite(value: Any, what: str) -> None:
    if value is None:
        return
    path = walk.find(value, lambda item: isinstance(item, float) and not math.isfinite(item))
    if path is not None:
        raise PayloadError(
            f"{what} has NaN or an infinity at {path}, which JSON cannot hold. Store None or text instead."
        )


def _refuse_nul(value: Any, what: str) -> None:
    path = walk.find(value, lambda item: isinstance(item, str) and "\x00" in item)
    raise PayloadError(
        f"{what} has text with a NUL character{f' at {path}' if path else ''}, which databases cannot store. "
        f'Remove it: text.replace("\\x00", "").'
    )


def _judge_size(size: int, limit: limits.Limits, what: str) -> None:
    if size > limit.max_bytes:
        raise PayloadError(
            f"{what} takes {size:,} bytes, but at most {limit.max_bytes:,} are stored. Keep the data in a table or a "
            f'file and pass its key; or raise DURABLE["MAX_PAYLOAD_BYTES"].'
        )
    logger.warning(
        "%s takes %s bytes. Values of this size slow every replay down: keep the data elsewhere and pass its key.",
        what,
        f"{size:,}",
    )


def _has_surrogate(item: Any) -> bool:
    return isinstance(item, str) and any("\ud800" <= character <= "\udfff" for character in item)
