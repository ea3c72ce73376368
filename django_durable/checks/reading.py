"""Reading the code of a workflow: its body, and the plain functions of its module that it calls."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from django_durable.checks import rules
from django_durable.checks.names import Names
from django_durable.definitions.activity import ActivityDefinition
from django_durable.engine.context import Context

AWAITED = frozenset(name for name, value in vars(Context).items() if inspect.iscoroutinefunction(value)) | {"activity"}
"""What the context gives that does nothing unless it is awaited."""

_IGNORED = re.compile(r"#\s*durable:\s*ignore(?:\[([^\]]*)\])?")


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Finding(NamedTuple):
    """Something that looks wrong: ``what`` is said of the function, as in "reads the clock with time.time()"."""

    id: str
    file: str
    line: int
    what: str
    hint: str


class Source:
    """A file of Python, read once."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._lines = linecache.getlines(file)
        self._functions: dict[tuple[str, int], ast.AST] = {}
        module = ast.parse("".join(self._lines))
        self.top = [node for node in module.body if not isinstance(node, _DEFINITIONS)]
        for node in module.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                self._functions[node.name, first] = node

    def function(self, code: types.CodeType) -> ast.AST | None:
        return self._functions.get((code.co_name, code.co_firstlineno))

    def ignores(self, id: str, node: ast.AST) -> bool:
        """Whether a comment on the first or last line of ``node`` says that it is meant."""
        for line in {node.lineno, node.end_lineno or node.lineno}:  # type: ignore[attr-defined]
            found = _IGNORED.search(self._lines[line - 1])
            if found and (found[1] is None or id.rpartition(".")[2] in re.split(r"[\s,]+", found[1].strip())):
                return True
        return False


class Reader:
    """Reads workflows. Each file is parsed once, each function read once."""

    def __init__(self, *, knows_workflow: Callable[[str], bool], knows_activity: Callable[[str], bool]) -> None:
        self._sources: dict[str, Source | None] = {}
        self._seen: set[types.CodeType] = set()
        self._knows = {"workflow_named": knows_workflow, "activity_named": knows_activity}

    def read(self, function: Any) -> Iterator[Finding]:
        """What looks wrong in ``function`` and in the functions of its module that it calls."""
        waiting = [inspect.unwrap(function)]
        while waiting:
            following = waiting.pop()
            code = following.__code__
            source = self._source(code.co_filename)
            node = source.function(code) if source is not None else None
            if source is None or node is None or code in self._seen:
                continue
            self._seen.add(code)
            body = _Body(source, node, following, self._knows)
            yield from body.findings()
            waiting += body.called

    def read_modules(self) -> Iterator[Finding]:
        """Names that do not exist, outside of functions, in the files that were read so far."""
        for source in filter(None, self._sources.values()):
            for statement in source.top:
                for node in walk(statement):
                    if isinstance(node, ast.Call):
                        yield from _unknown_name(source, node, self._knows)

    def _source(self, file: str) -> Source | None:
        if file not in self._sources:
            try:
                self._sources[file] = Source(file) if file.endswith(".py") else None
            except (SyntaxError, ValueError):
                self._sources[file] = None
        return self._sources[file]


class _Body:
    """One function. ``called``: plain functions of its module that it calls, known once ``findings`` was exhausted."""

    def __init__(self, source: Source, node: ast.AST, function: Any, knows: dict[str, Callable[[str], bool]]) -> None:
        self.called: list[Any] = []
        self._source = source
        self._node = node
        self._module = function.__module__
        self._contexts = _contexts_of(node)
        self._nodes = list(walk(node, unless=self._is_side_effect))
        self._names = Names(function, [one for one in self._nodes if isinstance(one, ast.Import | ast.ImportFrom)])
        self._knows = knows

    def findings(self) -> Iterator[Finding]:
        for node in self._nodes:
            look = _LOOKS.get(type(node))
            if look is not None:
                yield from look(self, node)

    def _found(self, node: ast.AST, id: str, what: str, hint: str) -> Iterator[Finding]:
        return _found(self._source, node, id, what, hint)

    def _is_context(self, node: ast.AST, methods: frozenset[str]) -> bool:
        """Whether ``node`` is a call of one of these methods of the context."""
        return (
            type(node) is ast.Call
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in methods
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in self._contexts
        )

    def _is_side_effect(self, node: ast.AST) -> bool:
        """What is given to ctx.side_effect() may be anything: its value is kept."""
        return self._is_context(node, frozenset({"side_effect"}))

    # Looks, by kind of node

    def call(self, node: ast.Call) -> Iterator[Finding]:
        path = self._names.path(node.func)
        rule = rules.of_path(path) or self._by_method(node.func)
        if rule is not None:
            yield from self._found(node, rule.id, f"{rule.does} with {ast.unparse(node.func)}()", rule.hint)
        if isinstance(node.func, ast.Name):
            yield from self._plain_call(node, node.func.id)
        yield from _unknown_name(self._source, node, self._knows)

    def _by_method(self, function: ast.expr) -> rules.Rule | None:
        if not isinstance(function, ast.Attribute):
            return None
        if isinstance(function.value, ast.Name) and function.value.id in self._contexts:
            return None
        found = rules.METHODS.get(function.attr)
        return rules.ORM if found is None and self._is_manager(function.value) else found

    def _is_manager(self, node: ast.expr) -> bool:
        """Whether ``node`` is the manager of a model, as in ``Order.objects``."""
        if not (isinstance(node, ast.Attribute) and node.attr in ("objects", "_default_manager")):
            return False
        owner = node.value
        return isinstance(owner, ast.Attribute) or (isinstance(owner, ast.Name) and owner.id[:1].isupper())

    def _plain_call(self, node: ast.Call, name: str) -> Iterator[Finding]:
        value = self._names.value(name)
        if issubclass(type(value), ActivityDefinition):
            yield from self._found(
                node,
                "durable.W112",
                f"calls the activity {name}() as a plain function, so that nothing of it is durable",
                f"Use await ctx.activity({name}, ...).",
            )
        elif issubclass(type(value), types.FunctionType) and value.__module__ == self._module:
            self.called.append(inspect.unwrap(value))

    def statement(self, node: ast.Expr) -> Iterator[Finding]:
        if self._is_context(node.value, AWAITED):
            call = ast.unparse(node.value.func)  # type: ignore[attr-defined]
            yield from self._found(
                node, "durable.W111", f"does not await {call}(), so that nothing happens", f"Write await {call}(...)."
            )

    def attribute(self, node: ast.Attribute) -> Iterable[Finding]:
        if node.attr != "environ" or self._names.path(node) != "os.environ":
            return ()
        return self._environment(node)

    def name(self, node: ast.Name) -> Iterable[Finding]:
        return self._environment(node) if node.id in self._names.environments else ()

    def _environment(self, node: ast.expr) -> Iterator[Finding]:
        rule = rules.ENVIRONMENT
        yield from self._found(node, rule.id, f"{rule.does} with {ast.unparse(node)}", rule.hint)

    def handler(self, node: ast.ExceptHandler) -> Iterator[Finding]:
        if not _catches_all(node.type) or any(isinstance(one, ast.Raise) for one in _own_nodes(node.body)):
            return
        caught = "except BaseException" if node.type is not None else "except:"
        yield from self._found(
            node,
            "durable.W110",
            f"swallows with {caught!r} what stops workflow code from outside, and requests to cancel",
            "Catch Exception, or raise again at the end of the block.",
        )


def _found(source: Source, node: ast.AST, id: str, what: str, hint: str) -> Iterator[Finding]:
    if not source.ignores(id, node):
        yield Finding(id, source.file, node.lineno, what, hint)  # type: ignore[attr-defined]


def _unknown_name(source: Source, node: ast.Call, knows: dict[str, Callable[[str], bool]]) -> Iterator[Finding]:
    verb = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    match node.args:
        case [ast.Constant(value=str(name)), *_] if verb in knows and not knows[verb](name):
            kind, modules = verb.partition("_")[0], {"workflow": "workflows.py", "activity": "activities.py"}
            yield from _found(
                source,
                node,
                "durable.W113",
                f"names the {kind} {name!r}, which does not exist in this process",
                f"Correct the name, or import the module that declares it in the {modules[kind]} of an app.",
            )


_LOOKS: dict[type[ast.AST], Callable[[_Body, Any], Iterable[Finding]]] = {
    ast.Call: _Body.call,
    ast.Expr: _Body.statement,
    ast.Attribute: _Body.attribute,
    ast.Name: _Body.name,
    ast.ExceptHandler: _Body.handler,
}


def _contexts_of(node: ast.AST) -> set[str]:
    """Names of parameters that are a workflow's context, by their own name or their annotation."""
    arguments: Any = node.args  # type: ignore[attr-defined]
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {
        one.arg
        for one in every
        if one.arg.strip("_") in ("ctx", "context")
        or (one.annotation is not None and "Context" in ast.unparse(one.annotation))
    }


def _catches_all(kind: ast.expr | None) -> bool:
    if isinstance(kind, ast.Tuple):
        return any(map(_catches_all, kind.elts))
    return kind is None or (isinstance(kind, ast.Name) and kind.id == "BaseException")


def _own_nodes(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """All nodes of a block but those of functions that it defines."""
    for statement in body:
        yield from walk(statement, unless=lambda node: isinstance(node, _DEFINITIONS))


def walk(root: ast.AST, *, unless: Callable[[ast.AST], bool] | None = None) -> Iterator[ast.AST]:
    """``root`` and all nodes below it, but for those below nodes of which ``unless`` is true. Faster than ``ast``'s."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if unless is not None and unless(node):
            continue
        for name in _FIELDS[type(node)]:
            value = getattr(node, name, None)
            if isinstance(value, list):
                waiting += [one for one in value if isinstance(one, ast.AST)]
            elif isinstance(value, ast.AST):
                waiting.append(value)


class _Fields(dict[type[ast.AST], tuple[str, ...]]):
    """Per kind of node the fields that may hold others."""

    def __missing__(self, kind: type[ast.AST]) -> tuple[str, ...]:
        fields = self[kind] = tuple(name for name in kind._fields if name not in _PLAIN)
        return fields


_PLAIN = frozenset({"attr", "arg", "asname", "ctx", "id", "kind", "level", "module", "n", "name", "op", "ops", "s"})
_FIELDS = _Fields()
