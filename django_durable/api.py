"""``durable``: the decorators and the service verbs.

Importable before ``django.setup()``: whatever needs models is in ``django_durable.client``, imported on first use.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

from asgiref.sync import sync_to_async

from django_durable import propagation
from django_durable.definitions import activity as activities
from django_durable.definitions import current, registry
from django_durable.definitions import function as functions
from django_durable.definitions import options as checks
from django_durable.definitions import update as updates
from django_durable.definitions.activity import ActivityChanges, ActivityDefinition, ActivityOptions
from django_durable.definitions.current import CurrentActivity
from django_durable.definitions.reference import ActivityReference, WorkflowReference
from django_durable.definitions.retry import Retry
from django_durable.definitions.schedule import DeclaredSchedule, Schedule
from django_durable.definitions.signal import SignalDefinition, SignalMessage, as_message
from django_durable.definitions.update import UpdateDefinition, UpdateMessage, UpdateOptions
from django_durable.definitions.workflow import (
    ChildCancellation,
    OnConflict,
    OnError,
    OnReuse,
    ParentClose,
    WorkflowCall,
    WorkflowDefinition,
    WorkflowOptions,
)
from django_durable.exceptions import DefinitionError
from django_durable.payloads import custom

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from django_durable.client import BulkResult, ScheduleHandle, WorkflowHandle, WorkflowStatus
    from django_durable.engine.context import Context
    from django_durable.models import WorkflowRun

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


class WorkflowDeclaration(TypedDict, total=False):
    """Options of ``@durable.workflow``. A ``workflow_id`` belongs to one start: ``using(workflow_id=...)``."""

    name: str
    version: str
    default: bool
    on_error: OnError | None
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


def _client() -> Any:
    """The module that does the work. Imported here because it loads models, which need ``django.setup()`` first."""
    from django_durable import client  # noqa: PLC0415

    return client


def _twin(verb: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """The async twin of a sync verb, run where Django's own async ORM runs: in the request's one sync thread."""

    @functools.wraps(verb)
    async def twin(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await sync_to_async(verb, thread_sensitive=True)(self, *args, **kwargs)

    twin.__name__, twin.__qualname__ = f"a{verb.__name__}", f"Durable.a{verb.__name__}"
    return twin


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


class Durable:
    """What applications use of this library. There is one: ``django_durable.durable``."""

    registry = registry.registry

    # Declaring

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

    def current_activity(self) -> CurrentActivity:
        """What the running activity may know about itself. Raises ``DurableError`` outside of one."""
        return current.current_activity()

    # What goes with a workflow to its activities

    def actor(self, value: str | int | None) -> AbstractContextManager[None]:
        """Inside the block, workflows are started on behalf of ``value``, such as a user's primary key.

        ``current_actor()`` gives it in their activities, and in those of their children.
        """
        return propagation.actor(value)

    def current_actor(self) -> str | int | None:
        """On whose behalf this code runs: in a block of ``actor()``, or in an activity; None: nobody has said."""
        return propagation.current_actor()

    def propagate(
        self, name: str, *, capture: Callable[[], Any], restore: Callable[[Any], AbstractContextManager[Any] | None]
    ) -> None:
        """Take one more value along from the start of a workflow to its activities.

        ``capture()`` is called where a workflow is started and gives any JSON value, or None: there is nothing to
        take along. ``restore(value)`` is called before each attempt of an activity: it sets the value, or gives a
        context manager that does. To be called once, in a module that web and worker processes import.
        """
        propagation.propagate(name, capture=capture, restore=restore)

    # Asking

    def start_workflow(
        self, definition: WorkflowDefinition[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]:
        """Start a run with these arguments, in the caller's transaction, and return at once.

        Raises ``WorkflowAlreadyStarted`` if the workflow id is taken and the definition's policies say so,
        ``TypeError`` or ``PayloadError`` for arguments that do not fit.
        """
        handle: WorkflowHandle[R] = _client().start_workflow(definition, args, kwargs)
        return handle

    def start_workflows(self, calls: Iterable[WorkflowCall]) -> list[WorkflowHandle[Any]]:
        """Start many: ``start_workflows([process_order.call(1), process_order.call(2)])``. Handles in that order."""
        handles: list[WorkflowHandle[Any]] = _client().start_workflows(list(calls))
        return handles

    def get_workflow(self, workflow_id: str) -> WorkflowHandle[Any]:
        """A handle of the latest run of ``workflow_id``. Raises ``WorkflowNotFound``."""
        handle: WorkflowHandle[Any] = _client().get_workflow(workflow_id)
        return handle

    def get_workflow_status(self, workflow_id: str) -> WorkflowStatus:
        """How the latest run of ``workflow_id`` is. Raises ``WorkflowNotFound``."""
        status: WorkflowStatus = _client().get_workflow_status(workflow_id)
        return status

    def signal_workflow(
        self, workflow_id: str, signal: str | SignalDefinition[Any] | SignalMessage, payload: Any = None
    ) -> None:
        """Send a signal to the open run of ``workflow_id``, with the caller's transaction.

        Raises ``WorkflowNotFound``, ``WorkflowClosed``, or ``PayloadError`` if the payload does not fit.
        """
        _client().signal_workflow(workflow_id, as_message(signal, payload))

    def signal_with_start(
        self,
        message: str | SignalDefinition[Any] | SignalMessage,
        definition: WorkflowDefinition[P, R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> WorkflowHandle[R]:
        """Send a signal to the open run of ``definition.using(workflow_id=...)``, starting one if there is none.

        Both or neither, in the caller's transaction. The arguments are those of the start. Returns a handle of the
        run that gets the signal. Raises as ``start_workflow`` does, but an open run is no error.
        """
        handle: WorkflowHandle[R] = _client().signal_with_start(as_message(message), definition, args, kwargs)
        return handle

    def update_with_start(
        self,
        message: str | UpdateDefinition | UpdateMessage,
        definition: WorkflowDefinition[P, R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Any:
        """Send an update to the open run of ``definition.using(workflow_id=...)``, starting one if there is none.

        Both or neither, in a transaction of its own; then wait for the reply, and return it. The arguments are those
        of the start. Raises as ``start_workflow`` and ``update_workflow`` do, but an open run is no error. A run that
        was started goes on whatever becomes of the update.
        """
        return _client().update_with_start(updates.as_message(message), definition, args, kwargs)

    async def aupdate_with_start(
        self,
        message: str | UpdateDefinition | UpdateMessage,
        definition: WorkflowDefinition[P, R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Any:
        return await _client().aupdate_with_start(updates.as_message(message), definition, args, kwargs)

    aupdate_with_start.__doc__ = update_with_start.__doc__

    def query_workflow(self, workflow_id: str, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Ask the latest run of ``workflow_id``, open or closed. Needs no worker: its history is replayed here.

        Raises ``WorkflowNotFound``, ``QueryFailed`` if it has no handler of that name or the handler raises,
        ``NonDeterminismError`` if this process's code does not repeat the history, and ``WouldWaitForever`` inside an
        open transaction.
        """
        return _client().query_workflow(workflow_id, name, args, kwargs)

    def update_workflow(
        self, workflow_id: str, update: str | UpdateDefinition | UpdateMessage, /, *args: Any, **kwargs: Any
    ) -> Any:
        """Have the open run of ``workflow_id`` carry out an update, wait for the reply and return it, as JSON values.

        Raises ``UpdateRejected`` if the workflow refuses it, ``UpdateFailed`` if its handler raises,
        ``WorkflowNotFound``, ``WorkflowClosed``, or ``WouldWaitForever`` inside an open transaction. For an
        ``update_id`` or a ``timeout`` use ``get_workflow(workflow_id).using(...).update(...)``.
        """
        return _client().update_workflow(workflow_id, updates.as_message(update, args, kwargs), UpdateOptions())

    async def aupdate_workflow(
        self, workflow_id: str, update: str | UpdateDefinition | UpdateMessage, /, *args: Any, **kwargs: Any
    ) -> Any:
        message = updates.as_message(update, args, kwargs)
        return await _client().aupdate_workflow(workflow_id, message, UpdateOptions())

    aupdate_workflow.__doc__ = update_workflow.__doc__

    def cancel_workflow(self, workflow_id: str, reason: str = "") -> bool:
        """Ask the open run to end, so that it can clean up. False: it had ended. Raises ``WorkflowNotFound``."""
        asked: bool = _client().cancel_workflow(workflow_id, reason)
        return asked

    def terminate_workflow(self, workflow_id: str, reason: str = "") -> bool:
        """End the open run at once; none of its code runs. False: it had ended. Raises ``WorkflowNotFound``."""
        ended: bool = _client().terminate_workflow(workflow_id, reason)
        return ended

    def retry_failed(self, queryset: QuerySet[WorkflowRun], reason: str = "") -> BulkResult:
        """Let each workflow of ``WorkflowRun.objects.failed()...`` go on just before its failure, with today's code.

        Each is committed on its own. Skipped are runs that have neither failed nor timed out, those that were tried
        again already, and those whose workflow id has an open run.
        """
        result: BulkResult = _client().retry_failed(queryset, reason)
        return result

    def signal_workflows(
        self,
        queryset: QuerySet[WorkflowRun],
        signal: str | SignalDefinition[Any] | SignalMessage,
        payload: Any = None,
    ) -> BulkResult:
        """Send a signal to each open run of ``WorkflowRun.objects...``, in batches that are committed one by one.

        The result counts those that it was sent to as ``done``, and those that have ended as ``skipped``.
        """
        result: BulkResult = _client().signal_workflows(queryset, as_message(signal, payload))
        return result

    def cancel_workflows(self, queryset: QuerySet[WorkflowRun], reason: str = "") -> BulkResult:
        """Ask each open run of ``WorkflowRun.objects...`` to end, in batches that are committed one by one."""
        result: BulkResult = _client().cancel_workflows(queryset, reason)
        return result

    def terminate_workflows(self, queryset: QuerySet[WorkflowRun], reason: str = "") -> BulkResult:
        """End each open run of ``WorkflowRun.objects...`` at once; each is committed on its own."""
        result: BulkResult = _client().terminate_workflows(queryset, reason)
        return result

    def pause_workflows(self, queryset: QuerySet[WorkflowRun], reason: str = "") -> BulkResult:
        """Let each open run of ``WorkflowRun.objects...`` rest; each is committed on its own."""
        result: BulkResult = _client().pause_workflows(queryset, reason)
        return result

    def resume_workflows(self, queryset: QuerySet[WorkflowRun]) -> BulkResult:
        """Let each paused run of ``WorkflowRun.objects...`` go on; each is committed on its own."""
        result: BulkResult = _client().resume_workflows(queryset)
        return result

    def complete_activity(self, token: str, value: Any = None) -> None:
        """Give an activity that was left open, or a callback, its result; in the caller's transaction.

        Raises ``AlreadyCompleted`` if it has its outcome, ``WorkflowClosed`` if its workflow has ended,
        ``InvalidToken`` (a ``WorkflowNotFound``) for a token that is none, ``PayloadError``.
        """
        _client().complete_activity(token, value)

    def fail_activity(self, token: str, error: BaseException | str, *, type: str | None = None) -> None:
        """Let an activity that was left open, or a callback, fail for good. Raises what ``complete_activity`` does.

        ``type`` is the name that the workflow sees in its ``ActivityError``.
        """
        _client().fail_activity(token, error, type=type)

    def heartbeat_activity(self, token: str, details: Any = None) -> None:
        """Tell that somebody is still at an activity or a callback. Raises what ``complete_activity`` does."""
        _client().heartbeat_activity(token, details)

    def pause_workflow(self, workflow_id: str, reason: str = "") -> bool:
        """Let the open run rest until ``resume_workflow``: messages are kept for it, its time limits go on.

        False: it had ended. Raises ``WorkflowNotFound``.
        """
        paused: bool = _client().pause_workflow(workflow_id, reason)
        return paused

    def resume_workflow(self, workflow_id: str) -> bool:
        """Let a paused run go on. False: it was not paused, or has ended. Raises ``WorkflowNotFound``."""
        resumed: bool = _client().resume_workflow(workflow_id)
        return resumed

    def pause_definition(self, workflow: str | WorkflowDefinition[..., Any], reason: str = "") -> bool:
        """Let no worker take runs of a workflow, itself or its name, until ``resume_definition``: for deploys.

        Starts and messages wait meanwhile. False: it is paused already.
        """
        paused: bool = _client().pause_definition(workflow, reason)
        return paused

    def resume_definition(self, workflow: str | WorkflowDefinition[..., Any]) -> bool:
        """Let workers take runs of a workflow again. False: it was not paused."""
        resumed: bool = _client().resume_definition(workflow)
        return resumed

    def create_schedule(
        self, name: str, schedule: Schedule, definition: WorkflowDefinition[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> ScheduleHandle:
        """Start ``definition`` with these arguments whenever ``schedule`` says so, from this transaction's commit on.

        Raises ``ScheduleAlreadyExists``, ``TypeError`` or ``PayloadError`` for arguments that do not fit.
        """
        handle: ScheduleHandle = _client().create_schedule(name, schedule, definition, args, kwargs)
        return handle

    def get_schedule(self, name: str) -> ScheduleHandle:
        """The schedule of that name. Raises ``ScheduleNotFound``."""
        handle: ScheduleHandle = _client().get_schedule(name)
        return handle

    acomplete_activity = _twin(complete_activity)
    afail_activity = _twin(fail_activity)
    aheartbeat_activity = _twin(heartbeat_activity)
    acreate_schedule = _twin(create_schedule)
    aget_schedule = _twin(get_schedule)
    astart_workflow = _twin(start_workflow)
    astart_workflows = _twin(start_workflows)
    aget_workflow = _twin(get_workflow)
    aget_workflow_status = _twin(get_workflow_status)
    asignal_workflow = _twin(signal_workflow)
    asignal_with_start = _twin(signal_with_start)
    aquery_workflow = _twin(query_workflow)
    acancel_workflow = _twin(cancel_workflow)
    aterminate_workflow = _twin(terminate_workflow)
    apause_workflow = _twin(pause_workflow)
    aresume_workflow = _twin(resume_workflow)
    aretry_failed = _twin(retry_failed)
    asignal_workflows = _twin(signal_workflows)
    acancel_workflows = _twin(cancel_workflows)
    aterminate_workflows = _twin(terminate_workflows)
    apause_workflows = _twin(pause_workflows)
    aresume_workflows = _twin(resume_workflows)
    apause_definition = _twin(pause_definition)
    aresume_definition = _twin(resume_definition)

    def _declare_workflow(self, options: dict[str, Any], function: Any) -> WorkflowDefinition[..., Any]:
        checks.check_names(options, known=DECLARED, owner="@durable.workflow")
        given = dict(options)
        name, version, default = given.pop("name", None), given.pop("version", ""), given.pop("default", False)
        on_error = given.pop("on_error", None)
        definition: WorkflowDefinition[..., Any] = WorkflowDefinition(
            function,
            name=self._name_of(function, name, "durable.workflow"),
            version=version,
            default=default,
            on_error=on_error,
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


durable = Durable()
"""The one object that applications import."""
