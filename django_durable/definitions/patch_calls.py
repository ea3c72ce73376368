"""The patches that a workflow's code asks for, read from its source."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Collection

from django_durable.definitions.workflow import WorkflowDefinition

VERBS = ("patched", "deprecate_patch")


def patches_in(definition: WorkflowDefinition[..., object], *, others: Collection[str] = ()) -> set[str]:
    """Ids that the workflow's module asks for by name, outside of the functions called ``others``.

    A helper beside the workflow may ask for it. Empty if there is no source to read.
    """
    try:
        tree = ast.parse(inspect.getsource(sys.modules[definition.function.__module__]))
    except (KeyError, OSError, TypeError, SyntaxError):
        return set()
    return {
        found
        for statement in tree.body
        if getattr(statement, "name", None) not in others
        for node in ast.walk(statement)
        if (found := _id_in(node)) is not None
    }


def _id_in(node: ast.AST) -> str | None:
    match node:
        case ast.Call(func=ast.Attribute(attr=verb), args=[ast.Constant(value=str() as id), *_]) if verb in VERBS:
            return id
    return None
