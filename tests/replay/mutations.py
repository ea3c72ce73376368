"""Changes of the code in ``workflows.py``, one command at a time, as a careless deploy would make them.

Each changed place notes in ``touched`` that it was reached: a replay that reaches it and does not notice is a miss.
"""

from __future__ import annotations

import ast
import copy
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

SOURCE = Path(__file__).parent / "workflows.py"

PRELUDE = """
def _other(label: str) -> str:
    return label

def _touch(value=None):
    touched.append(True)
    if len(touched) > 100:
        raise RuntimeError("an endless loop")
    return value

class _Noted(ActivityDefinition):
    def encode_input(self, args, kwargs):  # called when the activity is scheduled, not when its coroutine is made
        return _touch(super().encode_input(args, kwargs))

OTHER = _Noted(_other, name="replay.other")
SAME = _Noted(_other, name="replay.work")
"""


class Mutation(NamedTuple):
    """One change of one workflow. ``module`` is the whole module with it."""

    workflow: str
    kind: str
    line: int
    source: str
    module: ast.Module

    def __str__(self) -> str:
        return f"{self.workflow}:{self.line} {self.kind}"


def all_of() -> list[Mutation]:
    """Every change, in the order of the source."""
    tree = ast.parse(SOURCE.read_text())
    found = []
    for position, function in enumerate(tree.body):
        if isinstance(function, ast.AsyncFunctionDef):
            for kind, node, changed in _changes(function):
                module = ast.Module([*tree.body[:position], changed, *tree.body[position + 1 :]], [])
                line = getattr(node, "lineno", function.lineno)
                found.append(Mutation(function.name, kind, line, ast.unparse(node), module))
    return found


def run(mutation: Mutation) -> tuple[dict[str, Any], list[bool]]:
    """The workflows of the changed module, and the list that grows when the changed place is reached."""
    touched: list[bool] = []
    names: dict[str, Any] = {"__name__": "tests.replay.mutated", "touched": touched}
    exec(_compiled(mutation.module), names)
    return names["WORKFLOWS"], touched


@functools.cache
def _compiled(module: ast.Module) -> CodeType:
    prelude = ast.parse(PRELUDE).body
    last_import = max(index for index, node in enumerate(module.body) if isinstance(node, ast.ImportFrom))
    module.body[last_import + 1 : last_import + 1] = prelude
    return compile(ast.fix_missing_locations(module), str(SOURCE), "exec", dont_inherit=True)


Change = tuple[str, ast.AST, ast.AsyncFunctionDef]


def _changes(function: ast.AsyncFunctionDef) -> Iterator[Change]:
    copied, places = _copy(function)
    for index, node in enumerate(ast.walk(function)):
        for kind, change in _KINDS.items():
            if change(places[index]):
                yield kind, node, copied
                copied, places = _copy(function)  # only after a change: there are thousands of places and few changes


def _copy(function: ast.AsyncFunctionDef) -> tuple[ast.AsyncFunctionDef, list[ast.AST]]:
    """A copy to change, and its nodes in the order of ``ast.walk``."""
    copied = copy.deepcopy(function)
    return copied, list(ast.walk(copied))


def _touching(value: ast.expr) -> ast.expr:
    return ast.Call(func=ast.Name("_touch", ast.Load()), args=[value], keywords=[])


def _is_call(node: ast.AST, *names: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names


def _rename(node: Any) -> bool:
    """Call another activity."""
    if not _is_call(node, "activity"):
        return False
    node.args[0] = ast.Name("OTHER", ast.Load())
    return True


def _reword(node: Any) -> bool:
    """Call the activity with another argument."""
    if not _is_call(node, "activity"):
        return False
    node.args = [ast.Name("SAME", ast.Load()), ast.BinOp(node.args[1], ast.Add(), ast.Constant("!"))]
    return True


def _give_other_words(node: Any) -> bool:
    """Start a child with another argument."""
    if not _is_call(node, "child_workflow", "start_child"):
        return False
    node.args[1] = _touching(ast.BinOp(node.args[1], ast.Add(), ast.Constant("!")))
    return True


def _send_another(node: Any) -> bool:
    """Send another signal to a child or to another workflow."""
    if not _is_call(node, "signal"):
        return False
    node.args[0] = _touching(ast.BinOp(node.args[0], ast.Add(), ast.Constant("!")))
    return True


def _prolong(node: Any) -> bool:
    """Wait longer."""
    if _is_call(node, "sleep", "timeout"):
        node.args[0] = _touching(ast.BinOp(node.args[0], ast.Mult(), ast.Constant(2)))
    elif _is_call(node, "wait_for"):
        node.args[1] = _touching(ast.BinOp(node.args[1], ast.Mult(), ast.Constant(2)))
    elif _is_call(node, "wait_signal") and node.keywords:
        node.keywords[0].value = _touching(ast.BinOp(node.keywords[0].value, ast.Mult(), ast.Constant(2)))
    else:
        return False
    return True


def _is_command(node: ast.AST) -> bool:
    return isinstance(node, ast.Await) and _is_call(node.value, "activity", "sleep")


def _waits_inside(node: ast.expr) -> bool:
    """Whether its own arguments wait: doing that twice would take the next one's turn, as a loop does anyway."""
    return any(isinstance(part, ast.Await) for part in ast.walk(node) if part is not node)


def _drop(node: Any) -> bool:
    """Leave the activity or the wait out."""
    for field, value in ast.iter_fields(node):
        if isinstance(value, ast.expr) and _is_command(value):
            setattr(node, field, _touching(ast.Constant("left out")))
            return True
    return False


def _repeat(node: Any) -> bool:
    """Do it twice."""
    for field, value in ast.iter_fields(node):
        if isinstance(value, ast.expr) and _is_command(value) and not _waits_inside(value):
            twice = ast.Tuple([copy.deepcopy(value), _touching(ast.Constant(None)), value], ast.Load())
            setattr(node, field, ast.Subscript(twice, ast.Constant(2), ast.Load()))
            return True
    return False


def _swap(node: Any) -> bool:
    """Exchange two statements that wait for something."""
    body = getattr(node, "body", None)
    if not isinstance(body, list):
        return False
    for index, (first, second) in enumerate(itertools.pairwise(body)):
        if all(any(_is_command(part) for part in _own(statement)) for statement in (first, second)):
            body[index : index + 2] = [second, ast.Expr(_touching(ast.Constant(None))), first]
            return True
    return False


def _own(statement: ast.AST) -> Iterator[ast.AST]:
    return iter(()) if isinstance(statement, ast.AsyncFunctionDef | ast.FunctionDef) else ast.walk(statement)


def _skip_effect(node: Any) -> bool:
    """Ask for no side effect, or for no random number, where there was one."""
    if not _is_call(node, "side_effect"):
        return False
    node.func = ast.Name("_touch", ast.Load())
    node.args = [ast.Constant(42)]
    return True


_KINDS: dict[str, Callable[[Any], bool]] = {
    "another activity": _rename,
    "another argument": _reword,
    "another argument of a child": _give_other_words,
    "another signal": _send_another,
    "a longer wait": _prolong,
    "left out": _drop,
    "twice": _repeat,
    "exchanged": _swap,
    "no side effect": _skip_effect,
}
