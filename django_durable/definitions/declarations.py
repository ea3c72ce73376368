"""What the code of a project declares: workflows, activities, messages, schedules, types of payloads."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

from django_durable.definitions import activity as activities
from django_durable.definitions import function as functions
from django_durable.definitions import options as checks
from django_durable.definitions import registry
from django_durable.definitions.activity import ActivityChanges, ActivityDefinition, ActivityOptions
from django_durable.definitions.reference import ActivityReference, WorkflowReference
from django_durable.definitions.retention import Retention
from django_durable.definitions.retry import Retry
from django_durable.definitions.schedule import DeclaredSchedule, Schedule
from django_durable.definitions.signal import SignalDefinition
from django_durable.definitions.update import UpdateDefinition
from django_durable.definitions.workflow import (
    ChildCancellation,
    OnConflict,
    OnError,
    OnReuse,
    ParentClose,
    WorkflowDefinition,
    WorkflowOptions,
)
from django_durable.exceptions import DefinitionError
from django_durable.payloads import custom

if TYPE_CHECKING:
    from django_durable.engine.context import Context

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class WorkflowDeclaration(TypedDict, total=False):
    """Options of ``@durable.workflow``. A ``workflow_id`` belongs to one start: ``using(workflow_id=...)``."""

    name: str
    version: str
    default: bool
    on_error: OnError | None
    api: bool
    retention: Retention
    queue: str
    priority: int
    on_conflict: OnConflict
    on_reuse: OnReuse
    execution_timeout: timedelta | None
    run_timeout: timedelta | None
    retry: Retry | None
    parent_close: ParentClose
    cancellation: ChildCancellation


DECLARED = frozenset(WorkflowDeclaration.__annotations__)


class ActivityDecorator(Protocol):
    """What ``@durable.activity(...)`` gives: it keeps the types of sync and of async functions."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> ActivityDefinition[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> ActivityDefinition[P, R]: ...


class WorkflowDecorator(Protocol):
    """What ``@durable.workflow(...)`` gives."""

    def __call__(
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> WorkflowDefinition[P, R]: ...


class Declarations:
    """The declaring half of ``durable``: whatever is declared is in ``registry``."""

    registry = registry.registry

    @overload
    def workflow(
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> WorkflowDefinition[P, R]: ...

    @overload
    def workflow(self, /, **options: Unpack[WorkflowDeclaration]) -> WorkflowDecorator: ...

    def workflow(self, function: Any = None, /, **options: Any) -> Any:
        """Declare an ``async def`` of a ``Context`` and its own arguments as a workflow.

        ``name`` defaults to ``<app_label>.<function name>``. Several versions of one name may be declared: starts by
        name take the last, or the one with ``default=True``, and runs stay with theirs. Raises ``DefinitionError``
        for what could not work.
        """
        declare = functools.partial(self._declare_workflow, options)
        return declare if function is None else declare(function)

    @overload
    def activity(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> ActivityDefinition[P, R]: ...

    @overload
    def activity(self, function: Callable[P, R], /) -> ActivityDefinition[P, R]: ...

    @overload
    def activity(self, /, **options: Unpack[ActivityChanges]) -> ActivityDecorator: ...

    def activity(self, function: Any = None, /, **options: Any) -> Any:
        """Declare a function, sync or async, as an activity.

        ``name`` defaults to ``<app_label>.<function name>``. Raises ``DefinitionError`` for what could not work.
        """
        declare = functools.partial(self._declare_activity, options)
        return declare if function is None else declare(function)

    @overload
    def signal(self, name: str) -> SignalDefinition[Any]: ...

    @overload
    def signal(self, name: str, type: type[T]) -> SignalDefinition[T]: ...

    @overload
    def signal(self, name: str, type: types.UnionType) -> SignalDefinition[Any]: ...

    def signal(self, name: str, type: Any = Any) -> SignalDefinition[Any]:
        """Declare a signal whose payload is of ``type``. To send one: ``signal_workflow``."""
        return SignalDefinition(name, type)

    def schedule(
        self,
        schedule: Schedule | None = None,
        /,
        *,
        name: str | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Callable[[WorkflowDefinition[P, R]], WorkflowDefinition[P, R]]:
        """Declare that a workflow is started by a schedule: a ``Schedule``, or its fields (``cron="0 3 * * *"``).

        Stands above ``@durable.workflow``. ``name`` defaults to the workflow's. Workers write it to the database when
        they start, and later changes of the code too; what staff have paused there stays paused.
        """
        if (schedule is None) == (not fields):
            raise TypeError("durable.schedule() takes either a Schedule or its fields, such as cron='0 3 * * *'.")
        chosen = schedule or Schedule(**fields)

        def declare(definition: WorkflowDefinition[P, R]) -> WorkflowDefinition[P, R]:
            if not isinstance(definition, WorkflowDefinition):
                raise DefinitionError("@durable.schedule stands above @durable.workflow, which makes the workflow.")
            definition.signature.bind(args, kwargs or {})
            self.registry.add_schedule(
                DeclaredSchedule(
                    name=name or definition.name,
                    schedule=chosen,
                    workflow=definition.name,
                    args=args,
                    kwargs=kwargs or {},
                )
            )
            return definition

        return declare

    def update(self, name: str) -> UpdateDefinition:
        """Declare an update. Calling it makes a message; to send one: ``update_workflow``."""
        return UpdateDefinition(name)

    def payload_type(self, kind: type[T], *, encode: Callable[[T], Any], decode: Callable[[Any], T]) -> None:
        """Let values of ``kind`` be arguments, results and messages.

        ``encode`` turns one into something that can be stored already (text, numbers, lists, dicts with text keys),
        ``decode`` makes it again, wherever an annotation names the class. Call it where the class is defined.
        """
        custom.add(kind, encode=encode, decode=decode)

    def workflow_named(self, name: str, version: str | None = None) -> WorkflowDefinition[..., Any]:
        """The workflow that is registered as ``name``; it is looked up when first used.

        ``version`` None: the one marked as the default, or else the last that was registered.
        """
        return WorkflowReference(name, self.registry, wanted=version)

    def activity_named(self, name: str) -> ActivityDefinition[..., Any]:
        """The activity that is registered as ``name``; it is looked up when first used."""
        return ActivityReference(name, self.registry)

    def _declare_workflow(self, options: dict[str, Any], function: Any) -> WorkflowDefinition[..., Any]:
        checks.check_names(options, known=DECLARED, owner="@durable.workflow")
        given = dict(options)
        name, version, default = given.pop("name", None), given.pop("version", ""), given.pop("default", False)
        on_error, api = given.pop("on_error", None), given.pop("api", False)
        retention = given.pop("retention", None)
        definition: WorkflowDefinition[..., Any] = WorkflowDefinition(
            function,
            name=self._name_of(function, name, "durable.workflow"),
            version=version,
            default=default,
            on_error=on_error,
            api=api,
            retention=retention,
            options=WorkflowOptions(**given),
        )
        self.registry.add_workflow(definition)
        return definition

    def _declare_activity(self, options: dict[str, Any], function: Any) -> ActivityDefinition[..., Any]:
        checks.check_names(options, known=activities.KNOWN, owner="@durable.activity")
        given = dict(options)
        name = given.pop("name", None)
        definition: ActivityDefinition[..., Any] = ActivityDefinition(
            function, name=self._name_of(function, name, "durable.activity"), options=ActivityOptions(**given)
        )
        self.registry.add_activity(definition)
        return definition

    def _name_of(self, function: Any, name: str | None, decorator: str) -> str:
        functions.check_declarable(function, decorator=decorator)
        return self.registry.default_name(function) if name is None else name
