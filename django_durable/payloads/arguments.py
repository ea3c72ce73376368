"""Arguments of a call whose function the caller does not know: stored as they were given, by position and by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from django_durable.payloads import codec
from django_durable.payloads.payload import Payload, json_payload
from django_durable.payloads.signature import Arguments, CallSignature


class Given(msgspec.Struct, frozen=True):
    """``args`` and ``kwargs`` as JSON text that nobody has read yet."""

    args: tuple[msgspec.Raw, ...] = ()
    kwargs: dict[str, msgspec.Raw] = {}


_DECODER = msgspec.json.Decoder(Given)


def pack(args: Sequence[Any], kwargs: Mapping[str, Any], *, what: str) -> Payload:
    """Store arguments. Raises ``PayloadError`` for a value that cannot be stored."""
    return codec.encode({"args": list(args), "kwargs": dict(kwargs)}, what=what)


def unpack(payload: Payload, signature: CallSignature, *, what: str) -> Arguments:
    """The arguments as the annotations of ``signature`` say.

    Raises ``TypeError`` for a call that Python would refuse as well, ``PayloadError`` for a value that does not fit.
    """
    given: Given = codec.read(_DECODER, payload, what=what)
    bound = signature.bind(given.args, given.kwargs)
    return signature.decode_input(json_payload(msgspec.json.encode(bound)))
