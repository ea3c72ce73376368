"""The patches that a workflow's code asks for, read from its source."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Collection
from functools import lru_cache

from django_durable.definitions.workflow import WorkflowDefinition

VERBS = ("patched", "deprecate_patch")


def patches_in(definition: WorkflowDefinition[..., object], *, others: Collection[str] = ()) -> set[str]:
    """Ids that the workflow's module asks for by name, outside of the functions called ``others``.

    A helper beside the workflow may ask for it. Empty if there is no source to read.
    """
    try:
        source = inspect.getsource(sys.modules[definition.function.__module__])
        named = _ids_by_statement(source)
    except (KeyError, OSError, TypeError, SyntaxError):
        return set()
    return {id for name, ids in named if name not in others for id in ids}


@lru_cache(maxsize=64)
def _ids_by_statement(source: str) -> list[tuple[str | None, frozenset[str]]]:
    """What each statement of a module asks for, with its name if it has one. A module may have many workflows."""
    return [
        (
            getattr(statement, "name", None),
            frozenset(found for node in ast.walk(statement) if (found := _id_in(node)) is not None),
        )
        for statement in ast.parse(source).body
    ]


def _id_in(node: ast.AST) -> str | None:
    match node:
        case ast.Call(func=ast.Attribute(attr=verb), args=[ast.Constant(value=str() as id), *_]) if verb in VERBS:
            return id
    return None
