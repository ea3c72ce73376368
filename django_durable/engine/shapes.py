"""What the function of a handler takes: read once for all the closures that one ``def`` makes."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from django_durable.exceptions import DefinitionError
from django_durable.payloads import codec
from django_durable.payloads.payload import NULL, Payload
from django_durable.payloads.signature import POSITIONAL, CallSignature, signature_of

_LIMIT = 2_000  # shapes that are kept; a process has as many as its code has handlers
_TYPE_PARAMETERS = "__type_params__"  # from Python 3.12 on
_shapes: dict[Any, CallSignature] = {}


def of(function: Callable[..., Any], *, owner: str) -> CallSignature:
    """The signature of a function or a bound method; ``owner`` is what a sentence calls it.

    Raises ``DefinitionError`` for other callables.
    """
    bound = isinstance(function, types.MethodType)
    plain = inspect.unwrap(function.__func__ if bound else function)  # type: ignore[attr-defined]
    if not isinstance(plain, types.FunctionType):
        raise DefinitionError(f"{_capital(owner)} must be a function (def or async def) or a method, not {function!r}.")
    signature = signature_of(plain)
    annotations = {one.name: one.annotation for one in signature.parameters.values()}
    annotations["return"] = signature.return_annotation
    key = (plain.__code__, bound, owner, *((name, _key_of(kind)) for name, kind in annotations.items()))
    found = _shapes.get(key)
    if found is None:
        if len(_shapes) >= _LIMIT:
            _shapes.clear()
        given = {name: kind for name, kind in annotations.items() if kind is not Parameter.empty}
        found = _shapes[key] = CallSignature(_bare(plain, given), name=_capital(owner), owner=owner, skip=int(bound))
    return found


def _key_of(annotation: Any) -> Any:
    try:
        hash(annotation)
    except TypeError:
        return repr(annotation)
    return annotation


class _Default:
    """In the place of a parameter's default."""

    def __repr__(self) -> str:
        return "..."


_DEFAULT = _Default()


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _bare(function: types.FunctionType, annotations: dict[str, Any]) -> types.FunctionType:
    """The same signature without what the closure holds: keeping that would keep the whole run in memory."""
    cells = tuple(types.CellType() for _ in function.__code__.co_freevars)
    defaults = tuple(_DEFAULT for _ in function.__defaults__ or ())
    bare = types.FunctionType(function.__code__, function.__globals__, function.__name__, defaults, cells)
    bare.__kwdefaults__ = dict.fromkeys(function.__kwdefaults__ or (), _DEFAULT)
    bare.__annotations__ = annotations
    bare.__module__ = function.__module__
    if hasattr(function, _TYPE_PARAMETERS):
        setattr(bare, _TYPE_PARAMETERS, getattr(function, _TYPE_PARAMETERS))
    return bare


class PayloadShape:
    """How a signal's payload becomes the arguments of its handler: one, or none.

    The handler's own annotation says how it is read; without one, the type that the signal was declared with.
    """

    __slots__ = ("_has_default", "_kind", "_takes", "_what")

    def __init__(self, signature: CallSignature, declared: Any, *, what: str) -> None:
        """``what`` is the payload, for messages. Raises ``DefinitionError`` if more than a payload is needed."""
        _check_payload(signature)
        first = next(iter(signature.parameters), None)
        self._takes = first is not None and first.kind in (*POSITIONAL, Parameter.VAR_POSITIONAL)
        self._has_default = first is not None and first.default is not Parameter.empty
        annotated = first is not None and first.annotation is not Parameter.empty
        self._kind = signature.kind_of(first) if self._takes and annotated and first else declared
        self._what = what

    def arguments(self, payload: Payload) -> tuple[Any, ...]:
        """Raises ``PayloadError`` if the payload does not fit."""
        if not self._takes or (self._has_default and payload == NULL):
            return ()
        return (codec.decode(payload, self._kind, what=self._what),)


def _check_payload(signature: CallSignature) -> None:
    needed = [one for one in signature.parameters if one.default is Parameter.empty and one.kind in POSITIONAL]
    named = [one for one in signature.parameters if one.default is Parameter.empty and one.kind is one.KEYWORD_ONLY]
    if len(needed) > 1 or named:
        raise DefinitionError(
            f"{signature.name} is called with the signal's payload, or with nothing if it has no parameter, but it "
            f"needs {', '.join(one.name for one in [*needed, *named])}. Send several values as one dataclass or dict."
        )
