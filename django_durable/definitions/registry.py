"""Every workflow and activity that this process knows, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, TypeVar

from django_durable.definitions import options
from django_durable.definitions.activity import ActivityDefinition
from django_durable.definitions.schedule import DeclaredSchedule
from django_durable.definitions.workflow import WorkflowDefinition, key_of
from django_durable.exceptions import DefinitionError, UnknownDefinition

AnyWorkflow = WorkflowDefinition[Any, Any]
AnyActivity = ActivityDefinition[Any, Any]
D = TypeVar("D", AnyWorkflow, AnyActivity)

MODULES = ("workflows", "activities")


class Registry:
    """Definitions by name. Workflows and activities may share one."""

    def __init__(self) -> None:
        self._workflows: dict[str, AnyWorkflow] = {}  # by key: name and version
        self._current: dict[str, str] = {}  # of each name the key that plain starts take
        self._activities: dict[str, AnyActivity] = {}
        self._schedules: dict[str, DeclaredSchedule] = {}
        self._adapter: Callable[[object], AnyActivity | None] = lambda value: None
        self._label_of: Callable[[str], str | None] = lambda module: None

    def __reduce__(self) -> str:
        return "registry"  # pickle keeps the name of the one there is, below, and refuses any other

    def __iter__(self) -> Iterator[AnyWorkflow | AnyActivity]:
        """Everything that is registered, workflows first, in order of registration."""
        yield from self._workflows.values()
        yield from self._activities.values()

    def __len__(self) -> int:
        return len(self._workflows) + len(self._activities)

    def workflows(self) -> list[AnyWorkflow]:
        """All workflows, each version of one, in order of registration."""
        return list(self._workflows.values())

    def activities(self) -> list[AnyActivity]:
        """All activities, in order of registration."""
        return list(self._activities.values())

    def schedules(self) -> list[DeclaredSchedule]:
        """All schedules that code declares, in order of registration."""
        return list(self._schedules.values())

    def add_schedule(self, declared: DeclaredSchedule) -> None:
        """Register a schedule. Raises ``DefinitionError`` if another workflow's schedule has taken the name."""
        other = self._schedules.get(declared.name)
        if other is not None and other.workflow != declared.workflow:
            raise DefinitionError(
                f"Two schedules are called {declared.name!r}: one of {other.workflow}, one of {declared.workflow}. "
                "Give one of them another name."
            )
        self._schedules[declared.name] = declared

    def add_workflow(self, definition: AnyWorkflow) -> None:
        """Register a workflow, or another version of one.

        Raises ``DefinitionError`` if another place has taken the name and version, or is the default already.
        """
        current = self._workflows.get(self._current.get(definition.name, ""))
        others = current is not None and current.key != definition.key
        if current is not None and others and current.is_default and definition.is_default:
            raise DefinitionError(
                f"Two versions of workflow {definition.name!r} are marked as its default: {current.version!r} at "
                f"{current.place}, and {definition.version!r} at {definition.place}. Mark one of them only."
            )
        _add(self._workflows, definition.key, definition, "workflows")
        if current is None or not (others and current.is_default):
            self._current[definition.name] = definition.key

    def add_activity(self, definition: AnyActivity) -> None:
        """Register an activity. Raises ``DefinitionError`` if another place has taken the name."""
        _add(self._activities, definition.name, definition, "activities")

    def workflow(self, name: str, version: str | None = None) -> AnyWorkflow:
        """The workflow of that name and version; None: the version that starts by name take, which is the one marked
        as the default, or else the last that was registered. Raises ``UnknownDefinition``."""
        if version is not None:
            found = self._workflows.get(key_of(name, version))
        else:
            found = self._workflows.get(self._current.get(name, name)) or self._workflows.get(name)
        return found or self._unknown_workflow(name, version)

    def activity(self, name: str) -> AnyActivity:
        """The activity of that name. Raises ``UnknownDefinition``."""
        return self._activities.get(name) or _unknown(name, self._activities, "activity")

    def _unknown_workflow(self, name: str, version: str | None) -> AnyWorkflow:
        versions = [one.version for one in self._workflows.values() if one.name == name]
        if version is None or not versions:
            return _unknown(name, [one.name for one in self._workflows.values()], "workflow")
        raise UnknownDefinition(
            f"Workflow {name!r} has no version {version!r} in this process. It has: "
            f"{', '.join(repr(one) for one in versions)}."
        )

    def adapt_with(self, adapter: Callable[[object], AnyActivity | None]) -> None:
        """Let ``adapter`` make activities of other kinds of objects that projects have, such as Django's tasks."""
        self._adapter = adapter

    def adapted(self, value: object) -> AnyActivity | None:
        """``value`` as an activity: itself, or what it can be turned into; None if it is neither."""
        return value if isinstance(value, ActivityDefinition) else self._adapter(value)

    def label_with(self, resolver: Callable[[str], str | None]) -> None:
        """Let ``resolver`` turn a module's path into its app label, where it can."""
        self._label_of = resolver

    def default_name(self, function: Callable[..., Any]) -> str:
        """``<app label>.<function name>``."""
        module = function.__module__
        return f"{self._label_of(module) or label_of(module)}.{function.__name__}"


def label_of(module: str) -> str:
    """The app label that a module's path suggests: the package that holds its ``workflows`` or ``activities``."""
    parts = module.split(".")
    for name in MODULES:
        if name in parts[1:]:
            return parts[parts.index(name, 1) - 1]
    return parts[-2] if len(parts) > 1 else parts[0]


def _add(known: dict[str, D], key: str, definition: D, plural: str) -> None:
    other = known.get(key)
    # The same place again is the same code: a module that was reloaded, or imported under two names.
    if other is not None and other.place != definition.place:
        raise DefinitionError(
            f"Two {plural} are called {definition.name!r}: one at {other.place}, one at {definition.place}. "
            f"Rename one of them, or give it a name of its own: name=..."
        )
    known[key] = definition


def _unknown(name: str, known: Iterable[str], kind: str) -> NoReturn:
    raise UnknownDefinition(
        f"No {kind} is called {name!r} in this process.{options.near(name, known)} Definitions are found in the "
        f"workflows.py and activities.py of every app in INSTALLED_APPS; others need an import there."
    )


registry = Registry()
"""The one registry of the process."""
