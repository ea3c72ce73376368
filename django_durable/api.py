"""``durable``: what applications declare with, and the service verbs.

Importable before ``django.setup()``: whatever needs models is in ``django_durable.client`` and
``django_durable.worker``, imported on first use.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, Unpack

from asgiref.sync import sync_to_async
from django.utils.functional import SimpleLazyObject

from django_durable import propagation
from django_durable.definitions import current
from django_durable.definitions import update as updates
from django_durable.definitions.current import CurrentActivity
from django_durable.definitions.declarations import Declarations
from django_durable.definitions.queue import QueueChanges
from django_durable.definitions.schedule import Schedule
from django_durable.definitions.signal import SignalDefinition, SignalMessage, as_message
from django_durable.definitions.update import UpdateDefinition, UpdateMessage, UpdateOptions
from django_durable.definitions.workflow import WorkflowCall, WorkflowDefinition

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from django_durable import client
    from django_durable.client import BulkResult, QueueStatus, ScheduleHandle, WorkflowHandle, WorkflowStatus
    from django_durable.models import WorkflowRun
    from django_durable.worker import batch
    from django_durable.worker.batch import WorkBatch
else:  # they load models, which need django.setup() first
    client = SimpleLazyObject(lambda: import_module("django_durable.client"))
    batch = SimpleLazyObject(lambda: import_module("django_durable.worker.batch"))

_TYPES = {  # that only annotations of this module name
    "QuerySet": "django.db.models",
    "WorkflowRun": "django_durable.models",
    "WorkBatch": "django_durable.worker.batch",
    **dict.fromkeys(
        ("BulkResult", "QueueStatus", "ScheduleHandle", "WorkflowHandle", "WorkflowStatus"), "django_durable.client"
    ),
}

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


def load_types() -> None:
    """Let ``typing.get_type_hints`` find what the annotations here name. After ``django.setup()``."""
    globals().update({name: getattr(import_module(module), name) for name, module in _TYPES.items()})


def _twin(verb: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """The async twin of a sync verb, run where Django's own async ORM runs: in the request's one sync thread."""

    @functools.wraps(verb)
    async def twin(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await sync_to_async(verb, thread_sensitive=True)(self, *args, **kwargs)

    twin.__name__, twin.__qualname__ = f"a{verb.__name__}", f"Durable.a{verb.__name__}"
    return twin


class Durable(Declarations):
    """What applications use of this library. There is one: ``django_durable.durable``."""

    # One workflow

    def start_workflow(
        self, definition: WorkflowDefinition[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]:
        """Start a run with these arguments, in the caller's transaction, and return at once.

        Raises ``WorkflowAlreadyStarted`` if the workflow id is taken and the definition's policies say so,
        ``TypeError`` or ``PayloadError`` for arguments that do not fit.
        """
        return client.start_workflow(definition, args, kwargs)

    def get_workflow(self, workflow_id: str) -> WorkflowHandle[Any]:
        """A handle of the latest run of ``workflow_id``. Raises ``WorkflowNotFound``."""
        return client.get_workflow(workflow_id)

    def get_workflow_status(self, workflow_id: str) -> WorkflowStatus:
        """How the latest run of ``workflow_id`` is. Raises ``WorkflowNotFound``."""
        return client.get_workflow_status(workflow_id)

    def pause_workflow(self, workflow_id: str, reason: str = "") -> bool:
        """Let the open run rest until ``resume_workflow``: messages are kept for it, its time limits go on.

        False: it had ended. Raises ``WorkflowNotFound``.
        """
        return client.pause_workflow(workflow_id, reason)

    def resume_workflow(self, workflow_id: str) -> bool:
        """Let a paused run go on. False: it was not paused, or has ended. Raises ``WorkflowNotFound``."""
        return client.resume_workflow(workflow_id)

    def cancel_workflow(self, workflow_id: str, reason: str = "") -> bool:
        """Ask the open run to end, so that it can clean up. False: it had ended. Raises ``WorkflowNotFound``."""
        return client.cancel_workflow(workflow_id, reason)

    def terminate_workflow(self, workflow_id: str, reason: str = "") -> bool:
        """End the open run at once; none of its code runs. False: it had ended. Raises ``WorkflowNotFound``."""
        return client.terminate_workflow(workflow_id, reason)

    astart_workflow = _twin(start_workflow)
    aget_workflow = _twin(get_workflow)
    aget_workflow_status = _twin(get_workflow_status)
    apause_workflow = _twin(pause_workflow)
    aresume_workflow = _twin(resume_workflow)
    acancel_workflow = _twin(cancel_workflow)
    aterminate_workflow = _twin(terminate_workflow)

    # Messages to one workflow

    def signal_workflow(
        self, workflow_id: str, signal: str | SignalDefinition[Any] | SignalMessage, payload: Any = None
    ) -> None:
        """Send a signal to the open run of ``workflow_id``, with the caller's transaction.

        Raises ``WorkflowNotFound``, ``WorkflowClosed``, or ``PayloadError`` if the payload does not fit.
        """
        client.signal_workflow(workflow_id, as_message(signal, payload))

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
        return client.signal_with_start(as_message(message), definition, args, kwargs)

    def query_workflow(self, workflow_id: str, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Ask the latest run of ``workflow_id``, open or closed. Needs no worker: its history is replayed here.

        Raises ``WorkflowNotFound``, ``QueryFailed`` if it has no handler of that name or the handler raises,
        ``NonDeterminismError`` if this process's code does not repeat the history, and ``WouldWaitForever`` inside an
        open transaction.
        """
        return client.query_workflow(workflow_id, name, args, kwargs)

    def update_workflow(
        self, workflow_id: str, update: str | UpdateDefinition | UpdateMessage, /, *args: Any, **kwargs: Any
    ) -> Any:
        """Have the open run of ``workflow_id`` carry out an update, wait for the reply and return it, as JSON values.

        Raises ``UpdateRejected`` if the workflow refuses it, ``UpdateFailed`` if its handler raises,
        ``WorkflowNotFound``, ``WorkflowClosed``, or ``WouldWaitForever`` inside an open transaction. For an
        ``update_id`` or a ``timeout`` use ``get_workflow(workflow_id).using(...).update(...)``.
        """
        return client.update_workflow(workflow_id, updates.as_message(update, args, kwargs), UpdateOptions())

    async def aupdate_workflow(
        self, workflow_id: str, update: str | UpdateDefinition | UpdateMessage, /, *args: Any, **kwargs: Any
    ) -> Any:
        message = updates.as_message(update, args, kwargs)
        return await client.aupdate_workflow(workflow_id, message, UpdateOptions())

    aupdate_workflow.__doc__ = update_workflow.__doc__

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
        return client.update_with_start(updates.as_message(message), definition, args, kwargs)

    async def aupdate_with_start(
        self,
        message: str | UpdateDefinition | UpdateMessage,
        definition: WorkflowDefinition[P, R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Any:
        return await client.aupdate_with_start(updates.as_message(message), definition, args, kwargs)

    aupdate_with_start.__doc__ = update_with_start.__doc__

    asignal_workflow = _twin(signal_workflow)
    asignal_with_start = _twin(signal_with_start)
    aquery_workflow = _twin(query_workflow)

    # Many workflows

    def start_workflows(self, calls: Iterable[WorkflowCall]) -> list[WorkflowHandle[Any]]:
        """Start many: ``start_workflows([process_order.call(1), process_order.call(2)])``. Handles in that order."""
        return client.start_workflows(list(calls))

    def signal_workflows(
        self,
        queryset: QuerySet[WorkflowRun],
        signal: str | SignalDefinition[Any] | SignalMessage,
        payload: Any = None,
    ) -> BulkResult:
        """Send a signal to each open run of ``WorkflowRun.objects...``, in batches that are committed one by one.

        The result counts those that it was sent to as ``done``, and those that have ended as ``skipped``.
        """
        return client.signal_workflows(queryset, as_message(signal, payload))

    def pause_workflows(self, queryset: QuerySet[WorkflowRun], reason: str = "") -> BulkResult:
        """Let each open run of ``WorkflowRun.objects...`` rest; each is committed on its own."""
        return client.pause_workflows(queryset, reason)

    def resume_workflows(self, queryset: QuerySet[WorkflowRun]) -> BulkResult:
        """Let each paused run of ``WorkflowRun.objects...`` go on; each is committed on its own."""
        return client.resume_workflows(queryset)

    def cancel_workflows(self, queryset: QuerySet[WorkflowRun], reason: str = "") -> BulkResult:
        """Ask each open run of ``WorkflowRun.objects...`` to end, in batches that are committed one by one."""
        return client.cancel_workflows(queryset, reason)

    def terminate_workflows(self, queryset: QuerySet[WorkflowRun], reason: str = "") -> BulkResult:
        """End each open run of ``WorkflowRun.objects...`` at once; each is committed on its own."""
        return client.terminate_workflows(queryset, reason)

    def retry_failed(self, queryset: QuerySet[WorkflowRun], reason: str = "") -> BulkResult:
        """Let each workflow of ``WorkflowRun.objects.failed()...`` go on just before its failure, with today's code.

        Each is committed on its own. Skipped are runs that have neither failed nor timed out, those that were tried
        again already, and those whose workflow id has an open run.
        """
        return client.retry_failed(queryset, reason)

    def pause_definition(self, workflow: str | WorkflowDefinition[..., Any], reason: str = "") -> bool:
        """Let no worker take runs of a workflow, itself or its name, until ``resume_definition``: for deploys.

        Starts and messages wait meanwhile. False: it is paused already.
        """
        return client.pause_definition(workflow, reason)

    def resume_definition(self, workflow: str | WorkflowDefinition[..., Any]) -> bool:
        """Let workers take runs of a workflow again. False: it was not paused."""
        return client.resume_definition(workflow)

    astart_workflows = _twin(start_workflows)
    asignal_workflows = _twin(signal_workflows)
    apause_workflows = _twin(pause_workflows)
    aresume_workflows = _twin(resume_workflows)
    acancel_workflows = _twin(cancel_workflows)
    aterminate_workflows = _twin(terminate_workflows)
    aretry_failed = _twin(retry_failed)
    apause_definition = _twin(pause_definition)
    aresume_definition = _twin(resume_definition)

    # Schedules

    def create_schedule(
        self, name: str, schedule: Schedule, definition: WorkflowDefinition[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> ScheduleHandle:
        """Start ``definition`` with these arguments whenever ``schedule`` says so, from this transaction's commit on.

        Raises ``ScheduleAlreadyExists``, ``TypeError`` or ``PayloadError`` for arguments that do not fit.
        """
        return client.create_schedule(name, schedule, definition, args, kwargs)

    def get_schedule(self, name: str) -> ScheduleHandle:
        """The schedule of that name. Raises ``ScheduleNotFound``."""
        return client.get_schedule(name)

    acreate_schedule = _twin(create_schedule)
    aget_schedule = _twin(get_schedule)

    # Queues

    def set_queue(self, name: str, /, **changes: Unpack[QueueChanges]) -> QueueStatus:
        """Limit a queue, in the caller's transaction and without a deploy; what is not given stays as it is.

        Workers see it within about a second. Raises ``DefinitionError`` for unknown or wrong options.
        """
        return client.set_queue(name, changes)

    def get_queue(self, name: str) -> QueueStatus:
        """How a queue is set up. One that nobody has set up has no limits."""
        return client.get_queue(name)

    def pause_queue(self, name: str, reason: str = "") -> bool:
        """Let no worker take anything from a queue until ``resume_queue``. False: it is paused already."""
        return client.pause_queue(name, reason)

    def resume_queue(self, name: str) -> bool:
        """Let workers take from a queue again. False: it was not paused."""
        return client.resume_queue(name)

    aset_queue = _twin(set_queue)
    aget_queue = _twin(get_queue)
    apause_queue = _twin(pause_queue)
    aresume_queue = _twin(resume_queue)

    # Activities

    def current_activity(self) -> CurrentActivity:
        """What the running activity may know about itself. Raises ``DurableError`` outside of one."""
        return current.current_activity()

    def complete_activity(self, token: str, value: Any = None) -> None:
        """Give an activity that was left open, or a callback, its result; in the caller's transaction.

        Raises ``AlreadyCompleted`` if it has its outcome, ``WorkflowClosed`` if its workflow has ended,
        ``InvalidToken`` (a ``WorkflowNotFound``) for a token that is none, ``PayloadError``.
        """
        client.complete_activity(token, value)

    def fail_activity(self, token: str, error: BaseException | str, *, type: str | None = None) -> None:
        """Let an activity that was left open, or a callback, fail for good. Raises what ``complete_activity`` does.

        ``type`` is the name that the workflow sees in its ``ActivityError``.
        """
        client.fail_activity(token, error, type=type)

    def heartbeat_activity(self, token: str, details: Any = None) -> None:
        """Tell that somebody is still at an activity or a callback. Raises what ``complete_activity`` does."""
        client.heartbeat_activity(token, details)

    acomplete_activity = _twin(complete_activity)
    afail_activity = _twin(fail_activity)
    aheartbeat_activity = _twin(heartbeat_activity)

    # Work

    def work_batch(
        self,
        *,
        max_seconds: float,
        queues: Sequence[str] | None = None,
        concurrency: int | None = None,
        recover: bool = True,
        wait_for_places: bool = True,
    ) -> WorkBatch:
        """Be a worker until nothing is due, or for ``max_seconds``; then hand everything back, and say how it went.

        For functions, jobs and cron: nothing of the worker outlives the call. ``queues`` and ``concurrency``:
        instead of those of the settings. ``recover``: stay until workers that seem to have died are known to be dead,
        which takes somewhat longer than a lease, and do what they had. ``wait_for_places``: stay while only the
        limits of queues keep something waiting.

        Raises ``WorkBatchFailed`` if there was no database or the worker broke down, ``WouldWaitForever`` inside an
        open transaction.
        """
        return batch.work_batch(
            max_seconds=max_seconds,
            queues=queues,
            concurrency=concurrency,
            recover=recover,
            wait_for_places=wait_for_places,
        )

    awork_batch = _twin(work_batch)

    # What goes along with a workflow to its activities

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


durable = Durable()
"""The one object that applications import."""
