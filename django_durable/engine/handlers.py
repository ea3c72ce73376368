"""Handlers: functions of a workflow that take its signals, carry out its updates and answer queries."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from django_durable.definitions.signal import SignalDefinition
from django_durable.definitions.update import UpdateDefinition
from django_durable.engine import continuing, lines, shapes
from django_durable.engine.commands import CompleteUpdate, RejectSignal
from django_durable.engine.log import WorkflowLog
from django_durable.engine.loop import DeterministicLoop
from django_durable.engine.recorder import Recorder
from django_durable.engine.signals import Arrived, Signals
from django_durable.exceptions import DefinitionError, PayloadError, UnsupportedInWorkflow
from django_durable.history import events, failures
from django_durable.payloads import arguments
from django_durable.payloads.payload import Payload
from django_durable.payloads.signature import Arguments, CallSignature

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)


class Handler:
    """One registered function. It runs in a copy of the ``contextvars`` in which it was registered."""

    __slots__ = ("context", "function", "name", "signature", "validator", "what")

    def __init__(
        self, kind: str, name: str, function: Function, *, role: str = "handler", validator: Handler | None = None
    ) -> None:
        self.what = f"{kind} {name!r}"
        self.name = name
        self.function = function
        self.signature: CallSignature = shapes.of(function, owner=f"the {role} of {self.what}")
        self.signature.resolve()
        self.validator = validator
        self.context = contextvars.copy_context()

    def arguments(self, input: Payload) -> Arguments:
        """Raises ``TypeError`` or ``PayloadError`` for what the function does not take."""
        return arguments.unpack(input, self.signature, what=f"The arguments of {self.what}")

    async def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = self.function(*args, **kwargs)
        return await value if inspect.isawaitable(value) else value


class Call:
    """A handler at work: ``update`` is the id of the update that it answers, None for a signal."""

    __slots__ = ("handler", "task", "update")

    def __init__(self, handler: Handler, task: asyncio.Future[Any], update: str | None) -> None:
        self.handler = handler
        self.task = task
        self.update = update


class Handlers:
    """The handlers of a run, and the calls of them that have not ended: ``open``, in the order of their beginning."""

    __slots__ = (
        "_log",
        "_loop",
        "_main",
        "_recorder",
        "_signals",
        "_waiters",
        "cancelled",
        "end",
        "error",
        "open",
        "queries",
        "updates",
    )

    def __init__(self, loop: DeterministicLoop, recorder: Recorder, signals: Signals, log: WorkflowLog) -> None:
        self.queries: dict[str, Handler] = {}
        self.updates: dict[str, Handler] = {}
        self.open: dict[asyncio.Future[Any], Call] = {}
        self.error: BaseException | None = None
        """What a signal's handler has raised: it fails the run."""
        self.cancelled = False
        """Whether the run was asked to end after its body had."""
        self.end: BaseException | None = None
        """What made the body end, if its handlers end with it."""
        self._loop = loop
        self._recorder = recorder
        self._signals = signals
        self._log = log
        self._main: asyncio.Task[Any] | None = None
        self._waiters: list[tuple[asyncio.Future[Any] | None, asyncio.Future[None]]] = []

    # Registering

    def on_signal(self, signal: SignalDefinition[Any] | str) -> Callable[[F], F]:
        """A decorator: the function has the signals of a name, those first that have waited for somebody."""
        self._recorder.check()
        declared = signal.type if isinstance(signal, SignalDefinition) else Any
        name = _name_of(signal, "on_signal")

        def register(function: F) -> F:
            self._recorder.check()
            handler = Handler("signal", name, function)
            shape = shapes.PayloadShape(handler.signature, declared, what=f"The payload of signal {name!r}")
            self._signals.hand_to(name, partial(self._receive, handler, shape))
            return function

        return register

    def on_query(self, name: str) -> Callable[[F], F]:
        self._recorder.check()
        name = _name_of(name, "on_query")

        def register(function: F) -> F:
            self._recorder.check()
            self.queries[name] = Handler("query", name, function)
            return function

        return register

    def on_update(self, update: UpdateDefinition | str, validator: Function | None) -> Callable[[F], F]:
        self._recorder.check()
        name = _name_of(update, "on_update")
        check = Handler("update", name, validator, role="validator") if validator is not None else None

        def register(function: F) -> F:
            self._recorder.check()
            self.updates[name] = Handler("update", name, function, validator=check)
            return function

        return register

    # What arrives

    def _receive(self, handler: Handler, shape: shapes.PayloadShape, arrived: Arrived) -> None:
        try:
            args = shape.arguments(arrived.payload)
        except PayloadError as error:
            where = lines.of_function(handler.function) if self._recorder.replaying else ""
            self._recorder.issue(RejectSignal(name=handler.name, message=str(error), where=where))
            self._log.warning("Signal %r was rejected: %s", handler.name, error)
            return
        self._begin(handler, args, {})

    def accept(self, event: events.UpdateAccepted) -> None:
        """Begin to carry an update out."""
        handler = self.updates[event.name]
        try:
            args, kwargs = handler.arguments(event.input)
        except Exception as error:  # it was checked when it was accepted: today's code takes other arguments
            self._recorder.verdict = error
            return
        self._begin(handler, args, kwargs, event.id)

    def takes_update(self, event: events.UpdateAccepted) -> bool:
        """Whether there is a handler, and a body that may still be told."""
        return event.name in self.updates and self.end is None

    def _begin(
        self, handler: Handler, args: tuple[Any, ...], kwargs: dict[str, Any], update: str | None = None
    ) -> None:
        name = f"{handler.what} {update}" if update else handler.what
        task = self._loop.create_task(handler.call(args, kwargs), name=name, context=handler.context.copy())
        self.open[task] = Call(handler, task, update)
        task.add_done_callback(self._done, context=contextvars.Context())

    def _done(self, task: asyncio.Future[Any]) -> None:
        call = self.open.pop(task)
        error = _error_of(task)
        if call.update is not None:
            self._reply(call, call.update, task, error)
        elif error is not None:
            self._failed(call, error)
        self._wake()

    def _reply(self, call: Call, update: str, task: asyncio.Future[Any], error: BaseException | None) -> None:
        command = CompleteUpdate(id=update, name=call.handler.name)
        if self._recorder.replaying:
            command.where = lines.of_function(call.handler.function)
        if error is None:
            try:
                command.result = call.handler.signature.encode_result(task.result())
            except Exception as unfit:
                error = unfit
        if error is not None:
            if continuing.input_in(error) is not None:
                error = UnsupportedInWorkflow(
                    f"The handler of {call.handler.what} called ctx.continue_as_new(), so it has no answer. Set "
                    "something that the workflow's body waits for, return the answer, and let the body call it."
                )
            if self.end is not None and isinstance(error, asyncio.CancelledError):
                error = self.end  # the body's own error says more than that it took the handler along
            lines.trim(error)
            command.failure = failures.from_exception(error)
        self._recorder.issue(command)

    def _failed(self, call: Call, error: BaseException) -> None:
        """A signal's handler has raised: the run fails, after its body was cancelled and could clean up."""
        if self.end is not None:
            if not isinstance(error, asyncio.CancelledError):
                self._log.error(
                    "The handler of %s failed after the workflow's body.", call.handler.what, exc_info=error
                )
            return
        if self.error is None:
            self.error = error
        assert self._main is not None
        if self._main.done():
            self._end_all(error)
        else:
            self._main.cancel(f"The handler of {call.handler.what} has failed.")

    # Ending

    def watch(self, main: asyncio.Task[Any]) -> None:
        """``main`` is the workflow's body."""
        self._main = main
        main.add_done_callback(self._body_done, context=contextvars.Context())

    def _body_done(self, main: asyncio.Future[Any]) -> None:
        error = _error_of(main)
        if error is not None and (self.error is not None or continuing.input_in(error) is None):
            self._end_all(self.error or error)

    def cancel(self, reason: str) -> None:
        """The run is asked to end while only its handlers are left. Nothing changes if they are ending already."""
        if self.end is not None:
            return
        self.cancelled = True
        self._end_all(asyncio.CancelledError(reason) if reason else asyncio.CancelledError())

    def _end_all(self, error: BaseException) -> None:
        """Cancel what is open. No handler is called any more: signals are unhandled, updates are refused."""
        self.end = error
        self._signals.hand_to_nobody()
        for call in list(self.open.values()):
            call.task.cancel()

    async def finished(self) -> None:
        """Wait until no handler is open; inside of one, until the others only wait for this as well."""
        self._loop.gate()
        self._recorder.check()
        task = asyncio.current_task(self._loop)
        inside = task if task in self.open else None
        waiter: asyncio.Future[None] = asyncio.Future(loop=self._loop)
        place = (inside, waiter)
        self._waiters.append(place)
        try:
            self._wake()
            await waiter
        finally:
            if place in self._waiters:
                self._waiters.remove(place)

    def _wake(self) -> None:
        """Let those go on whose condition is met."""
        resting = {inside for inside, _ in self._waiters if inside is not None}
        done_inside = self.open.keys() <= resting
        for inside, waiter in list(self._waiters):
            if not waiter.done() and (not self.open or (inside is not None and done_inside)):
                waiter.set_result(None)

    # Looking

    def awaited(self) -> list[str]:
        """The open handlers that the run waits for: its body has ended, or asked for their end."""
        if self._main is None or not self.open or not (self._main.done() or self._waiters):
            return []
        return [call.handler.what for call in self.open.values()]

    def describe(self, future: asyncio.Future[Any]) -> str | None:
        """What a wait for ``future`` is, if it is one for handlers."""
        return "open handlers" if any(waiter is future for _, waiter in self._waiters) else None

    def clear(self) -> None:
        self.open.clear()
        self.queries.clear()
        self.updates.clear()
        self._waiters.clear()
        self._main = None


def _error_of(task: asyncio.Future[Any]) -> BaseException | None:
    try:
        task.result()
    except BaseException as error:
        return error
    return None


def _name_of(given: Any, decorator: str) -> str:
    name = given.name if isinstance(given, SignalDefinition | UpdateDefinition) else given
    if not isinstance(name, str) or not name:
        raise DefinitionError(
            f"ctx.{decorator}() needs the name of what it handles, as in @ctx.{decorator}('name'), "
            f"not {getattr(given, '__name__', given)!r}."
        )
    return name
