"""What a name in a piece of code stands for: a dotted path, such as ``datetime.datetime.now``."""

from __future__ import annotations

import ast
import builtins
import os
import types
from collections.abc import Iterable, Mapping
from typing import Any

_MISSING = object()


class Names:
    """Names as one function sees them: its own, those that it imports, and those of its module."""

    def __init__(self, function: Any, imports: Iterable[ast.Import | ast.ImportFrom]) -> None:
        """``imports``: those inside of the function."""
        self._module: Mapping[str, Any] = function.__globals__
        self._own = _bound_in(function.__code__)
        self._imported: dict[str, str] = {}
        for node in imports:
            self._imported |= _imported_by(node)
        self.environments = {name for name, path in self._imported.items() if path == "os.environ"}
        """Names of the environment of the process."""
        self.environments |= {name for name, value in self._module.items() if type(value) is type(os.environ)}
        self.environments -= self._own - self._imported.keys()

    def value(self, name: str) -> Any:
        """The object of the module that ``name`` means; None if it is a local one, or there is none."""
        if name in self._own:
            return None
        found = self._module.get(name, _MISSING)
        return getattr(builtins, name, None) if found is _MISSING else found

    def path(self, node: ast.expr) -> str:
        """The dotted path of ``node``, a name or attributes of one; empty if it is not known."""
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        root = self._imported.get(node.id) or path_of(self.value(node.id))
        return ".".join([root, *reversed(attributes)]) if root else ""


def path_of(value: Any) -> str:
    """Where ``value`` comes from; of an instance its class; empty for what has no such place.

    Asks for its type alone: looking at a lazy object would make it.
    """
    kind = type(value)
    if value is None:
        return ""
    if issubclass(kind, types.ModuleType):
        name: str = value.__name__
        return name
    if issubclass(kind, types.BuiltinMethodType | types.MethodType):
        return _path_of_method(value)
    if not issubclass(kind, type | types.FunctionType):
        value = kind
    return f"{value.__module__}.{value.__qualname__}"


def _path_of_method(value: Any) -> str:
    owner = value.__self__
    if owner is None or isinstance(owner, types.ModuleType):  # a function of a module that is written in C
        return f"{value.__module__}.{value.__qualname__}"
    owner = owner if isinstance(owner, type) else type(owner)
    return f"{owner.__module__}.{owner.__qualname__}.{value.__name__}"


def _bound_in(code: types.CodeType) -> set[str]:
    """Names that a function binds itself, or that the functions inside of it do."""
    bound = {*code.co_varnames, *code.co_cellvars}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            bound |= _bound_in(constant)
    return bound


def _imported_by(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """The names that an import binds, with what they stand for."""
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names if not node.level}
    found = {}
    for alias in node.names:
        first = alias.name.partition(".")[0]
        found[alias.asname or first] = alias.name if alias.asname else first
    return found
