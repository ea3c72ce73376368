"""What workflow code may use besides ``asyncio``."""

from __future__ import annotations

import asyncio
import random
import typing
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NoReturn, ParamSpec, TypeVar, overload

from django_durable.definitions.activity import ActivityDefinition
from django_durable.definitions.polling import Polling
from django_durable.definitions.signal import SignalDefinition
from django_durable.definitions.update import UpdateDefinition
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine import calling, timers
from django_durable.engine.batches import BatchResult, Limits
from django_durable.engine.callbacks import Callback
from django_durable.engine.calling import DjangoTask
from django_durable.engine.children import ChildHandle
from django_durable.engine.externals import ExternalWorkflow
from django_durable.engine.info import Info
from django_durable.engine.log import WorkflowLog
from django_durable.engine.scopes import Scope
from django_durable.engine.state import RunState
from django_durable.exceptions import DefinitionError
from django_durable.payloads import codec

P = ParamSpec("P")
T = TypeVar("T")
X = TypeVar("X")
F = TypeVar("F", bound=Callable[..., Any])


class Context:
    """The first argument of a workflow. Everything it gives is the same in every replay."""

    __slots__ = ("_state",)

    def __init__(self, state: RunState) -> None:
        self._state = state

    @property
    def _live(self) -> RunState:
        """The run's parts. Raises ``WorkflowEvicted`` once the run has left memory."""
        self._state.loop.gate()
        return self._state

    def activity(
        self, definition: ActivityDefinition[P, T] | DjangoTask[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T]:
        """Run an activity, or a task of Django's, and return its result.

        The result is a coroutine: await it, or hand it to ``asyncio.gather`` and its like. Nothing is scheduled
        before it runs. Awaiting it raises ``ActivityError`` if the activity fails for good, ``PayloadError`` if its
        arguments cannot be stored. If it is cancelled, the activity is asked to stop and nobody waits for it.
        """
        return self._state.activities.call(calling.activity_of(definition), args, kwargs)

    async def child_workflow(self, definition: WorkflowDefinition[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run another workflow as a child of this one, and return its result.

        Raises ``ChildWorkflowError`` if it ends without a result. If this is cancelled, so is the child, and its end
        is waited for (option ``cancellation``). A child that is open when its parent ends is terminated (option
        ``parent_close``).
        """
        calling.check_workflow(definition, "child_workflow")
        return typing.cast("T", await self._state.children.run(definition, args, kwargs))

    async def start_child(
        self, definition: WorkflowDefinition[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> ChildHandle[T]:
        """Start another workflow as a child of this one, and return as soon as it is started.

        Raises ``ChildWorkflowError``, of type ``WorkflowAlreadyStarted``, if its workflow id is taken.
        """
        calling.check_workflow(definition, "start_child")
        return await self._state.children.start(definition, args, kwargs)

    def get_workflow(self, workflow_id: str) -> ExternalWorkflow:
        """Any other workflow, by its id, to send it signals or to cancel it."""
        return ExternalWorkflow(self._live.externals, workflow_id)

    def poll(self, polling: Polling[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Look again and again: ``await ctx.poll(parcel_state.polling(until=is_there, every=60), 7)``.

        Gives the result that ``until`` is satisfied with. The history does not grow with each look. Raises
        ``ActivityError`` if a look fails for good, and with ``timeout == "poll"`` if all looks were in vain.
        """
        if not isinstance(polling, Polling):
            raise DefinitionError(f"ctx.poll() needs what activity.polling(...) gives, not {polling!r}.")
        return self._state.activities.call(polling.definition, args, kwargs, polling)

    @overload
    def callback(
        self,
        name: str,
        *,
        returns: type[T],
        timeout: timedelta | float | None = None,
        heartbeat: timedelta | float | None = None,
        key: str | None = None,
    ) -> Callback[T]: ...

    @overload
    def callback(
        self,
        name: str,
        *,
        timeout: timedelta | float | None = None,
        heartbeat: timedelta | float | None = None,
        key: str | None = None,
    ) -> Callback[Any]: ...

    def callback(
        self,
        name: str,
        *,
        returns: Any = Any,
        timeout: timedelta | float | None = None,
        heartbeat: timedelta | float | None = None,
        key: str | None = None,
    ) -> Callback[Any]:
        """Open a promise that somebody outside fulfils, by its ``token`` or by a POST to its ``url``. Await it later.

        Awaiting gives a value of type ``returns``, and raises ``ActivityError`` if it is failed from outside, if
        nobody fulfils it within ``timeout`` or gives a sign of life within ``heartbeat`` (timedeltas or seconds), and
        ``PayloadError`` if the value is not of the type.

        With a ``key`` it is a callback of the whole chain: asked for again with the same key, in this run or after
        continuing as new, it is the same one, with its first token, URL and time limits, and with the answer if that
        has come meanwhile. Once its outcome has been awaited, the next run may use the key for another one.
        """
        return self._live.callbacks.open(name, returns, timeout=timeout, heartbeat=heartbeat, chain_key=key)

    async def sleep(self, duration: timedelta | float, *, label: str = "") -> None:
        """Wait for ``duration``, a timedelta or seconds. A durable timer: it survives restarts, and costs nothing.

        ``label`` says in the history what for.
        """
        state = self._state
        future: asyncio.Future[None] = asyncio.Future(loop=state.loop)
        timer = state.loop.start_after(duration, timers.wake, future, label=label)
        try:
            await future
        except asyncio.CancelledError:
            timer.cancel()
            raise

    @overload
    async def wait_signal(
        self, signal: SignalDefinition[T], *, timeout: timedelta | float | None = None, label: str = ""
    ) -> T: ...

    @overload
    async def wait_signal(self, signal: str, *, timeout: timedelta | float | None = None, label: str = "") -> Any: ...

    async def wait_signal(
        self, signal: SignalDefinition[Any] | str, *, timeout: timedelta | float | None = None, label: str = ""
    ) -> Any:
        """The payload of the next signal of that name, in the order of arrival; signals that came earlier are kept.

        Several waiters are served in the order in which they began to wait. Raises ``TimeoutError`` if none comes
        within ``timeout`` (a timedelta or seconds), and ``PayloadError`` if the payload is not of the signal's type.
        ``label`` says in the history what the timeout is for.
        """
        if isinstance(signal, SignalDefinition):
            return signal.decode(await self._state.signals.next(signal.name, timeout, label))
        payload = await self._state.signals.next(signal, timeout, label)
        return codec.decode(payload, what=f"The payload of signal {signal!r}")

    async def wait_until(
        self, predicate: Callable[[], Any], timeout: timedelta | float | None = None, *, label: str = ""
    ) -> None:
        """Wait until ``predicate()`` is true: a plain function that only looks at what the workflow has.

        It is called again whenever something has happened and all code that could go on has done so. It is still true
        when the code goes on; of several that wait, one goes on at a time. Raises ``TimeoutError`` if it has not come
        true within ``timeout`` (a timedelta or seconds), and whatever the predicate raises.
        """
        await self._state.conditions.wait(predicate, timeout, label)

    @overload
    async def map(
        self,
        function: ActivityDefinition[..., T] | WorkflowDefinition[..., T],
        items: Iterable[Any],
        *,
        max_concurrency: int | None = None,
        min_successful: int | None = None,
        tolerated_failures: int | None = None,
    ) -> BatchResult[T]: ...

    @overload
    async def map(
        self,
        function: Callable[[X], Awaitable[T]],
        items: Iterable[X],
        *,
        max_concurrency: int | None = None,
        min_successful: int | None = None,
        tolerated_failures: int | None = None,
    ) -> BatchResult[T]: ...

    async def map(
        self,
        function: Any,
        items: Iterable[Any],
        *,
        max_concurrency: int | None = None,
        min_successful: int | None = None,
        tolerated_failures: int | None = None,
    ) -> BatchResult[Any]:
        """Call ``function``, an activity, a workflow or an async function, with each item; the results come in order.

        At most ``max_concurrency`` are under way at a time (None: 1,000). What fails is in the result and does not
        stop the others, until more than ``tolerated_failures`` have failed or ``min_successful`` cannot be reached any
        more: then the rest is cancelled. ``raise_if_failed()`` of the result raises ``BatchError``.
        """
        limits = Limits(
            max_concurrency=max_concurrency, min_successful=min_successful, tolerated_failures=tolerated_failures
        )
        return await self._state.batches.map(function, items, limits)

    async def parallel(
        self,
        branches: Iterable[Any],
        *,
        max_concurrency: int | None = None,
        min_successful: int | None = None,
        tolerated_failures: int | None = None,
    ) -> BatchResult[Any]:
        """Like ``map`` for different things: each branch is an awaitable, or a function without arguments."""
        limits = Limits(
            max_concurrency=max_concurrency, min_successful=min_successful, tolerated_failures=tolerated_failures
        )
        return await self._state.batches.parallel(branches, limits)

    def scope(self, name: str) -> Scope:
        """Group what is asked for inside ``with`` or ``async with`` under a name, for the history and the admin.

        Scopes nest, and tasks that begin inside belong to them. They are not compared on replay.
        """
        self._state.loop.gate()
        return Scope(name)

    @overload
    def compensate(self, function: WorkflowDefinition[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> None: ...

    @overload
    def compensate(self, function: ActivityDefinition[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> None: ...

    @overload
    def compensate(self, function: Callable[P, Awaitable[Any]], /, *args: P.args, **kwargs: P.kwargs) -> None: ...

    def compensate(self, function: Any, /, *args: Any, **kwargs: Any) -> None:
        """Have ``function``, an activity, workflow or async function, called if the workflow raises or is cancelled.

        Register each after, or right before, the step that it undoes. They are carried out in reverse, before the run
        ends with its error; a request to cancel does not stop them. One that fails does not stop the others: it is
        logged, and noted on the error.
        """
        self._state.compensations.add(function, args, kwargs)

    def compensate_in_parallel(self) -> None:
        """Let compensations be carried out all at once instead of one after the other in reverse."""
        self._live.compensations.in_parallel = True

    async def compensate_now(self) -> None:
        """Carry out the compensations that are registered, for a workflow that goes on afterwards; each is done once.

        Raises ``ExceptionGroup`` if some of them fail, after all have been tried.
        """
        await self._state.compensations.run()

    def on_signal(self, signal: SignalDefinition[Any] | str) -> Callable[[F], F]:
        """Let the decorated function, sync or async, have each signal of that name that no ``wait_signal`` waits for.

        It is called with the payload, or with nothing if it has no parameter; signals that came earlier come first.
        A payload that does not fit its annotation is recorded as rejected. What it raises fails the run.
        """
        return self._live.handlers.on_signal(signal)

    def on_query(self, name: str) -> Callable[[F], F]:
        """Let the decorated function, sync or async, answer the queries of that name.

        It can only look at what the workflow has: it asks for nothing, and does not wait.
        """
        return self._live.handlers.on_query(name)

    def on_update(
        self, update: UpdateDefinition | str, *, validator: Callable[..., Any] | None = None
    ) -> Callable[[F], F]:
        """Let the decorated function, sync or async, carry out the updates of that name.

        What it returns or raises is the caller's answer. ``validator`` is called first with the same arguments, and
        refuses by raising; it can only look, and a refused update leaves no history.
        """
        return self._live.handlers.on_update(update, validator)

    async def handlers_finished(self) -> None:
        """Wait until no handler of a signal or an update is at work. The end of the workflow waits for that anyway."""
        await self._state.handlers.finished()

    def continue_as_new(self, *args: Any, **kwargs: Any) -> NoReturn:
        """End this run and go on as a new one of the same workflow, with these arguments and a fresh history.

        Signals that nobody has taken go to the new run, messages in the inbox as well; activities that are not done
        are given up. Raises a ``BaseException`` that unwinds the code: nothing may be awaited on the way out.
        """
        self._live.continuing.ask(args, kwargs)

    def now(self) -> datetime:
        """The time of the event that is being handled, in UTC. It stands still until the next ``await``."""
        return self._live.loop.now

    @property
    def random(self) -> random.Random:
        """Random numbers that are the same in every replay. Not for secrets."""
        return self._live.values.random()

    def uuid4(self) -> uuid.UUID:
        """A random UUID that is the same in every replay. Not for secrets."""
        return self._live.values.uuid4()

    def side_effect(self, function: Callable[[], T]) -> T:
        """Call ``function`` once and record its value; a replay returns the recorded value.

        For what is quick and local, such as reading a setting; everything else is an activity. The value comes back
        as it is stored, typed by the function's return annotation. If ``function`` raises, the run fails.
        """
        return typing.cast("T", self._live.values.side_effect(function))

    def patched(self, id: str) -> bool:
        """Whether the run takes the new branch of a change of its code: True for runs that had not come here before.

        ``if ctx.patched("check stock first"): <new code> else: <old code>``. The answer stays the same for a run. Once
        ``manage.py durable_versions`` says that no open run needs the old branch, leave ``deprecate_patch`` in its
        place, and later nothing.
        """
        return self._live.patches.patched(id)

    def deprecate_patch(self, id: str) -> None:
        """The old branch of ``patched(id)`` is gone. New runs keep the marker for workers that still have both."""
        self._live.patches.patched(id)

    def set_attributes(self, attributes: Mapping[str, Any] | None = None, /, **values: Any) -> None:
        """Set search attributes of the run, by which ``WorkflowRun.objects.with_attributes()`` finds it; None removes.

        Text, numbers, bool, Decimal, datetime, date, UUID, enums. Raises ``PayloadError`` for other values.
        """
        self._state.showing.set_attributes({**(attributes or {}), **values})

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The search attributes that the run has, given at its start or set since."""
        return self._live.showing.values

    def set_progress(self, text: str, done: float | None = None, total: float | None = None) -> None:
        """Tell people what the run is doing; the status and the admin show the latest. Never part of the history."""
        self._state.showing.set_progress(text, done, total)

    @property
    def log(self) -> WorkflowLog:
        """A logger that is silent while replaying."""
        return self._live.log

    @property
    def info(self) -> Info:
        """What identifies this run, and how long its history is."""
        return self._live.describe()
