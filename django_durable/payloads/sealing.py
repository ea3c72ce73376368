"""The form in which payloads lie in the database: packed, and wrapped by the codecs of the settings.

In memory every value is JSON text; it is sealed when a row is written and opened when one is read. So the engine
compares what was meant, not what an encryption has made of it. The format of a sealed payload says all that reading it
takes, in the order in which it was written: ``msgpack+zlib+fernet``. What is written now has no part in that.

This layer knows no settings: whoever does gives a source with ``read_from`` and calls ``reset`` when they change.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from django_durable.exceptions import DefinitionError, PayloadUnreadable
from django_durable.payloads import limits, packing
from django_durable.payloads.codecs.base import Codec
from django_durable.payloads.codecs.compression import Zlib
from django_durable.payloads.packing import JSON

GROWN = 16 * 1024 * 1024
"""Bytes up to which a stored value may grow when it is read, if ``MAX_PAYLOAD_BYTES`` is less: that may be lowered."""

_base64 = msgspec.json.Decoder(bytes)


class Sealing:
    """How payloads are written, and all that can be read."""

    def __init__(self, *, format: str = JSON, codecs: Sequence[Codec] = (), reading: Sequence[Codec] = ()) -> None:
        """``codecs`` are applied in their order when a value is stored; those of ``reading`` only read."""
        self._format = format
        self._codecs = tuple(codecs)
        self._known = {Zlib.name: Zlib(), **{codec.name: codec for codec in (*codecs, *reading)}}
        self.is_plain = format == JSON and not self._codecs
        self.offloading = frozenset(name for name, codec in self._known.items() if codec.offloads)

    def close(self, text: bytes) -> tuple[str, bytes]:
        """JSON text as it is stored: the name of its format, and JSON text again, of its bytes in base64."""
        data = None if self._format == JSON else packing.of(self._format).pack(text)
        names = [JSON if data is None else self._format]
        data = text if data is None else data
        for codec in self._codecs:
            encoded = codec.encode(data)
            if encoded is not None:
                data = encoded
                names.append(codec.name)
        format = "+".join(names)
        return format, data if format == JSON else msgspec.json.encode(data)

    def open(self, format: str, stored: bytes) -> bytes:
        """What ``close`` was given. Raises ``PayloadUnreadable``."""
        if format == JSON:
            return stored
        packed, *names = format.split("+")
        if packed not in packing.NAMES:
            raise _refusal(format, "this release does not read it. Upgrade this process to the release that wrote it")
        limit = max(limits.current().max_bytes, GROWN)
        try:
            data = _base64.decode(stored)
            for name in reversed(names):
                data = self._codec(name).decode(data, limit=limit)
            return data if packed == JSON else packing.of(packed).unpack(data)
        except PayloadUnreadable as error:
            raise _refusal(format, str(error)) from error
        except msgspec.MsgspecError as error:
            raise _refusal(format, f"it is damaged: {error}") from error
        except Exception as error:  # a codec of the project's own may raise anything
            raise _refusal(format, f"{type(error).__name__}: {error}") from error

    def embed(self, format: str, stored: bytes) -> tuple[str, bytes]:
        """The same without what lies elsewhere: undone is whatever was done after and by the codec that put it there.

        Raises ``PayloadUnreadable``.
        """
        packed, *names = format.split("+")
        keeping = next((index for index, name in enumerate(names) if name in self.offloading), None)
        if keeping is None:
            return format, stored
        data = self._undo(format, stored, names[keeping:])
        kept = "+".join([packed, *names[:keeping]])
        return kept, data if kept == JSON else msgspec.json.encode(data)

    def discard(self, format: str, stored: bytes) -> None:
        """Delete what lies elsewhere of a value that nobody refers to any more. Raises ``PayloadUnreadable``."""
        _, *names = format.split("+")
        for index, name in enumerate(names):
            if name in self.offloading:
                self._codec(name).discard(self._undo(format, stored, names[index + 1 :]))

    def _undo(self, format: str, stored: bytes, names: Sequence[str]) -> bytes:
        try:
            data = _base64.decode(stored)
            for name in reversed(names):
                data = self._codec(name).decode(data, limit=max(limits.current().max_bytes, GROWN))
        except PayloadUnreadable as error:
            raise _refusal(format, str(error)) from error
        except Exception as error:  # a codec of the project's own may raise anything
            raise _refusal(format, f"{type(error).__name__}: {error}") from error
        return data

    def readable(self) -> str:
        """What can be read, as a text that changes with it."""
        return " ".join([*packing.NAMES, *sorted(codec.identity for codec in self._known.values())])

    def _codec(self, name: str) -> Codec:
        codec = self._known.get(name)
        if codec is None:
            raise PayloadUnreadable(
                f"no codec {name!r} is configured. Add the one that wrote it to the CODECS of "
                'DURABLE["PAYLOADS"], with "WRITE": False if it is only to read'
            )
        return codec


def _refusal(format: str, why: str) -> PayloadUnreadable:
    return PayloadUnreadable(f"in the format {format!r}: {why}.")


# From the settings


def from_settings(declared: Mapping[str, Any]) -> Sealing:
    """What ``DURABLE["PAYLOADS"]`` says. Raises ``DefinitionError`` that names what is wrong in it."""
    _refuse_unknown(declared, ("FORMAT", "CODECS"), "")
    format = declared.get("FORMAT", JSON)
    _check_format(format)
    entries = declared.get("CODECS", [])
    if not isinstance(entries, list | tuple):
        raise DefinitionError("CODECS must be a list of dicts, each with a BACKEND.")
    codecs = [_codec_of(entry, f"CODECS[{index}]") for index, entry in enumerate(entries)]
    _refuse_twins(codecs)
    writes = [entry.get("WRITE", True) for entry in entries]
    return Sealing(
        format=format,
        codecs=[codec for codec, write in zip(codecs, writes, strict=True) if write],
        reading=[codec for codec, write in zip(codecs, writes, strict=True) if not write],
    )


def _check_format(format: Any) -> None:
    if format not in packing.NAMES:
        raise DefinitionError(f"FORMAT is {format!r}, but must be one of {', '.join(map(repr, packing.NAMES))}.")
    try:
        _ = format == JSON or packing.of(format)
    except ImportError as error:
        raise DefinitionError(f"FORMAT {format!r} needs a package that is not installed: {error}") from error


def _codec_of(entry: Any, where: str) -> Codec:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("BACKEND"), str):
        raise DefinitionError(f'{where} must be a dict with the dotted path of a codec as its "BACKEND".')
    _refuse_unknown(entry, ("BACKEND", "OPTIONS", "WRITE"), f"{where} has ")
    module, _, name = entry["BACKEND"].rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise DefinitionError(f"{where}: {entry['BACKEND']!r} cannot be imported: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, Codec)):
        raise DefinitionError(f"{where}: {entry['BACKEND']!r} is no subclass of {Codec.__module__}.Codec.")
    try:
        codec: Codec = kind(**entry.get("OPTIONS", {}))
    except Exception as error:  # a codec of the project's own may raise anything
        raise DefinitionError(f"{where}: OPTIONS do not fit {name}: {error}") from error
    return codec


def _refuse_twins(codecs: Collection[Codec]) -> None:
    names = [codec.name for codec in codecs]
    for name in names:
        if names.count(name) > 1:
            raise DefinitionError(f"CODECS has {name!r} twice. A codec that has several keys takes them as options.")
        if "+" in name or not name:
            raise DefinitionError(f"CODECS has a codec whose name is {name!r}: it must be text without a plus sign.")


def _refuse_unknown(declared: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for name in declared:
        if name not in known:
            raise DefinitionError(f"{where}no key {name!r}; keys are {', '.join(known)}.")


# In use


class _Source:
    """Where the sealing comes from, and the last answer."""

    __slots__ = ("is_plain", "known", "read")

    def __init__(self) -> None:
        self.read: Callable[[], Sealing] = Sealing
        self.known: Sealing | None = None
        self.is_plain = False


state = _Source()
"""``state.is_plain``: payloads are known to be written as they are. Asked for every row, so it is no function."""


def current() -> Sealing:
    """The sealing as the settings say now. Raises ``DefinitionError``."""
    known = state.known
    if known is None:
        known = state.known = state.read()
        state.is_plain = known.is_plain
    return known


def read_from(source: Callable[[], Sealing]) -> None:
    """Ask ``source`` from now on."""
    state.read = source
    reset()


def reset() -> None:
    """Ask the source again at the next use."""
    state.known = None
    state.is_plain = False
