"""Calls <-> their stored form: an input is one JSON object with the arguments under their parameters' names."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable
from functools import cached_property
from inspect import Parameter
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from django_durable.exceptions import DefinitionError
from django_durable.payloads import codec, unsupported
from django_durable.payloads.payload import Payload

if sys.version_info >= (3, 14):
    import annotationlib

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature; names that exist only for type checkers are left unresolved."""
    if sys.version_info >= (3, 14):  # where annotations are evaluated when read
        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)


class _Form(NamedTuple):
    """The stored form of an input."""

    struct: type[msgspec.Struct]
    decoder: msgspec.json.Decoder[Any]


class CallSignature:
    """How the input and the result of one function are stored.

    ``name`` is the definition's, for messages, ``owner`` the same in the middle of a sentence. ``skip`` leading
    parameters are not part of the input (a workflow's context). Annotations are resolved on first use, when everything
    that they name has been imported.
    """

    def __init__(self, function: Callable[..., Any], *, name: str, skip: int = 0, owner: str = "") -> None:
        signature = signature_of(function)
        self.name = name
        self.function = function
        self.parameters = tuple(signature.parameters.values())[skip:]
        self.returns = signature.return_annotation
        self._signature = signature.replace(parameters=self.parameters)
        self._input_of = f"The input of {owner or name}"
        self._result_of = f"The result of {owner or name}"
        positional = [parameter for parameter in self.parameters if parameter.kind in POSITIONAL]
        self._positional = tuple(parameter.name for parameter in positional)
        self._required = sum(parameter.default is Parameter.empty for parameter in positional)
        self._needs_names = any(_is_required(p) for p in self.parameters if p.kind is Parameter.KEYWORD_ONLY)
        self._is_plain = len(positional) == len(self.parameters) == self._required

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by parameter name. Raises ``TypeError``, as a call would, naming definition and parameter."""
        if not kwargs and not self._needs_names and self._required <= len(args) <= len(self._positional):
            return dict(zip(self._positional, args, strict=False))
        try:
            bound = self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{self.name}{self._signature} was called wrongly: {error}") from None
        variadic = {parameter.name for parameter in self.parameters if parameter.kind in VARIADIC}
        return {name: value for name, value in bound.items() if value or name not in variadic}

    def encode_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        """Store a call's arguments, after a check that they can be read back as their annotations.

        Raises ``TypeError`` for a call that Python would refuse as well, ``PayloadError`` for a value that cannot be
        stored or does not fit.
        """
        form = self._form
        payload = codec.encode(form.struct(**self.bind(args, kwargs)), what=self._input_of)
        codec.read(form.decoder, payload, what=self._input_of)
        return payload

    def decode_input(self, payload: Payload) -> Arguments:
        """The positional and the named arguments to call the function with. Raises ``PayloadError``."""
        values = msgspec.structs.astuple(codec.read(self._form.decoder, payload, what=self._input_of))
        if self._is_plain:
            return values, {}
        return self._call_with(values)

    def encode_result(self, value: Any) -> Payload:
        """Store what the function returned, after a check that it can be read back. Raises ``PayloadError``."""
        payload = codec.encode(value, what=self._result_of)
        codec.read(self._result_decoder, payload, what=self._result_of)
        return payload

    def decode_result(self, payload: Payload) -> Any:
        """What the function returned, as its annotation says. Raises ``PayloadError``."""
        return codec.read(self._result_decoder, payload, what=self._result_of)

    def kind_of(self, parameter: Parameter) -> Any:
        """What the annotation of ``parameter`` stands for. Raises ``DefinitionError`` if it cannot be resolved."""
        kind = self._resolve(parameter.annotation, f"parameter {parameter.name!r}")
        self._check(kind, f"parameter {parameter.name!r}")
        return kind

    def resolve(self) -> None:
        """Resolve all annotations now. Raises ``DefinitionError`` for one that cannot work."""
        _ = self._form, self._result_decoder

    def check(self) -> None:
        """Raises ``DefinitionError`` for an annotation that cannot work, or has a type that is not read back."""
        self.resolve()
        for parameter in self.parameters:
            self._check_readable(self._kind_of(parameter), f"parameter {parameter.name!r}")
        self._check_readable(self._result_kind(), "the return value")

    def _check_readable(self, kind: Any, where: str) -> None:
        unreadable = codec.unreadable(kind)
        if unreadable is not None:
            raise self._unusable(where, unsupported.describe_type(unreadable))

    def _call_with(self, values: tuple[Any, ...]) -> Arguments:
        positional: list[Any] = []
        named: dict[str, Any] = {}
        skipped = False  # from the first omitted parameter on, Python takes the others by name only
        for parameter, value in zip(self.parameters, values, strict=True):
            if value is UNSET:
                skipped = True
            elif parameter.kind is Parameter.VAR_POSITIONAL:
                positional.extend(value)
            elif parameter.kind is Parameter.VAR_KEYWORD:
                named.update(value)
            elif parameter.kind is Parameter.KEYWORD_ONLY or skipped:
                named[parameter.name] = value
            else:
                positional.append(value)
        return tuple(positional), named

    @cached_property
    def _form(self) -> _Form:
        fields: list[Any] = []
        for parameter in self.parameters:
            kind = self._kind_of(parameter)
            self._check(kind, f"parameter {parameter.name!r}")
            fields.append((parameter.name, kind) if _is_required(parameter) else (parameter.name, kind, UNSET))
        # No rename, no tag: the JSON object is what a person would write. Unknown names are refused on reading: code
        # that has lost a parameter must not drop its argument in silence.
        struct = msgspec.defstruct("Input", fields, kw_only=True, forbid_unknown_fields=True)
        return _Form(struct, codec.decoder(struct))

    def _kind_of(self, parameter: Parameter) -> Any:
        """What all arguments of ``parameter`` are together."""
        kind = self._resolve(parameter.annotation, f"parameter {parameter.name!r}")
        if parameter.kind is Parameter.VAR_POSITIONAL:
            return types.GenericAlias(tuple, (kind, ...))
        return _keywords(kind) if parameter.kind is Parameter.VAR_KEYWORD else kind

    @cached_property
    def _result_decoder(self) -> msgspec.json.Decoder[Any]:
        return self._check(self._result_kind(), "the return value")

    def _result_kind(self) -> Any:
        kind = self._resolve(self.returns, "the return value")
        return Any if kind in (typing.NoReturn, typing.Never) else kind

    def _resolve(self, annotation: Any, where: str) -> Any:
        if annotation is Parameter.empty:
            return Any
        try:
            return _evaluated(annotation, inspect.unwrap(self.function))
        except NameError as error:
            raise DefinitionError(
                f"{self.name}: the annotation of {where} cannot be resolved: {error}. Stored values are read back by "
                f"their annotations, so import it where the code runs, not only under TYPE_CHECKING."
            ) from error
        except Exception as error:
            raise DefinitionError(f"{self.name}: the annotation of {where} cannot be resolved: {error}") from error

    def _check(self, kind: Any, where: str) -> msgspec.json.Decoder[Any]:
        try:
            return codec.decoder(kind)
        except (TypeError, NameError) as error:  # the latter of the fields of a class
            raise self._unusable(where, str(error)) from error

    def _unusable(self, where: str, why: str) -> DefinitionError:
        return DefinitionError(f"{self.name}: the annotation of {where} cannot be used for stored values: {why}")


def _is_required(parameter: Parameter) -> bool:
    return parameter.default is Parameter.empty and parameter.kind not in VARIADIC


def _keywords(kind: Any) -> Any:
    if typing.get_origin(kind) is typing.Unpack:
        return typing.get_args(kind)[0]
    return types.GenericAlias(dict, (str, kind))


def _evaluated(annotation: Any, function: Any) -> Any:
    """One annotation without its string form. ``typing.get_type_hints`` would refuse all because of one."""
    holder = types.FunctionType((lambda: None).__code__, getattr(function, "__globals__", {}))
    holder.__annotations__ = {"it": annotation}
    if hasattr(function, "__type_params__"):  # from Python 3.12 on
        vars(holder).update(__type_params__=function.__type_params__)
    return typing.get_type_hints(holder, include_extras=True)["it"]
