"""An event loop without a clock: it runs what is ready, and its time is that of the current event."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context
from datetime import datetime, timedelta
from typing import Any

from django_durable.engine import as_completed, refusing
from django_durable.engine.commands import CancelTimer, StartTimer
from django_durable.engine.recorder import DrainAborted, Recorder
from django_durable.engine.tasks import Future, Task
from django_durable.engine.timers import Timer, Timers
from django_durable.exceptions import WorkflowEvicted, WorkflowSuspended

REFUSALS_LIMIT = 100
"""How often an evicted loop raises before it goes silent, so that code that catches everything comes to rest."""

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND


def microseconds(span: timedelta) -> int:
    """``span`` as a whole number of microseconds."""
    return span.days * _DAY + span.seconds * _SECOND + span.microseconds


def is_running_here() -> bool:
    """Whether this thread is in the code of a workflow."""
    return isinstance(asyncio._get_running_loop(), DeterministicLoop)


class DeterministicLoop(refusing.RefusingLoop):
    """What ``asyncio`` needs to run inside a workflow, and nothing that could not be replayed.

    It keeps every unfinished task and every asynchronous generator alive: garbage collection would otherwise run
    their ``finally`` blocks at any time and in any thread. (What a task waits for is kept by the task.)
    """

    def __init__(self, *, seed: int, started: datetime, recorder: Recorder) -> None:
        self.seed = seed
        self.started = started
        self.now = started
        self.recorder = recorder
        self.timers = Timers()
        self.tasks: dict[int, Task] = {}
        self.generators: list[AsyncGenerator[Any, Any]] = []
        self.failed: list[Task] = []
        self.evicted = False
        self.on_error: Callable[[dict[str, Any]], None] | None = None
        self.on_idle: Callable[[], bool] | None = None
        self._ready: deque[asyncio.Handle] = deque()
        self._running = False
        self._now = 0
        self._ordinal = 0
        self._refusals = 0
        self._prune_at = 64
        self._context = Context()
        self._listed: dict[int, Task] = {}

    # Running

    def set_time(self, time: datetime) -> None:
        """Move to the time of the next input."""
        self.now = time
        self._now = microseconds(time - self.started)

    def run(self) -> None:
        """Run until nothing is ready, and ``on_idle`` makes nothing ready either.

        Raises only what stops workflow code from outside (``WorkflowSuspended``).
        """
        self.enter(self._run_until_idle)

    def enter(self, function: Callable[[], None]) -> None:
        """Call ``function`` with this loop as the running one, and put everything back afterwards."""
        previous = asyncio._get_running_loop()
        hooks = sys.get_asyncgen_hooks()
        if isinstance(previous, DeterministicLoop):
            previous = None  # left behind by an exception that was injected while it was being put back
        try:
            self._running = True
            sys.set_asyncgen_hooks(firstiter=self._generator_started, finalizer=_generator_collected)
            asyncio._set_running_loop(self)
            function()
        finally:
            asyncio._set_running_loop(previous)
            sys.set_asyncgen_hooks(*hooks)
            self._running = False

    def _run_until_idle(self) -> None:
        self._run_ready()
        while self.on_idle is not None and not self.recorder.aborted and self.on_idle():
            self._run_ready()

    def _run_ready(self) -> None:
        ready = self._ready
        recorder = self.recorder
        while ready:
            handle = ready.popleft()
            if handle._cancelled:
                continue
            try:
                handle._context.run(handle._callback, *handle._args)  # type: ignore[attr-defined]
            except DrainAborted:
                pass
            except WorkflowSuspended:
                raise
            except (SystemExit, KeyboardInterrupt) as error:
                recorder.verdict = error
            except BaseException as error:
                self.call_exception_handler({"message": "A callback raised", "exception": error, "handle": handle})
            if recorder.aborted:
                return

    def fire(self, sequence: int) -> None:
        """Make the callback of a recorded timer ready."""
        timer = self.timers.remove(sequence)
        assert timer is not None
        self._ready.append(timer)

    def set_aside(self) -> deque[asyncio.Handle]:
        """Take what is ready out of the loop, so that ``put_back`` can tell what was added since."""
        ready, self._ready = self._ready, deque()
        return ready

    def put_back(self, ready: deque[asyncio.Handle]) -> bool:
        """Undo ``set_aside``, and drop what was made ready since. Whether there was any."""
        added, self._ready = bool(self._ready), ready
        return added

    def release(self) -> None:
        """Let go of everything, after the tasks were closed."""
        for task in self.failed:
            task._log_traceback = False
        for collection in (self.tasks, self.generators, self.failed, self.timers, self._ready, self._listed):
            collection.clear()

    # What asyncio calls

    def time(self) -> float:
        """Seconds since the run started."""
        self.gate()
        return self._now / _SECOND

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return False

    def get_task_factory(self) -> None:
        return None

    def get_exception_handler(self) -> None:
        return None

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if self.evicted:
            self.gate()
        else:
            self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Timer:
        return self.start_timer(_duration(delay), callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Timer:
        return self.start_timer(_duration(when - self._now / _SECOND), callback, *args, context=context)

    def start_after(
        self, duration: timedelta | float, callback: Callable[..., Any], *args: Any, label: str = ""
    ) -> Timer:
        """Start a durable timer of a timedelta or of seconds."""
        span = microseconds(duration) if isinstance(duration, timedelta) else _duration(duration)
        timer = self.start_timer(span, callback, *args)
        if label and timer.command is not None:
            timer.command.label = str(label)
        return timer

    def start_timer(
        self, duration: int, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Timer:
        """Start a durable timer of ``duration`` microseconds; what is due already runs in this very drain."""
        self.gate()
        due = self._now + duration
        timer = Timer(due / _SECOND, callback, args, self, context or contextvars.copy_context())
        if self.evicted:
            return timer
        if duration <= 0:
            self._ready.append(timer)
            return timer
        self.date(due)
        timer.due = due
        timer.command = StartTimer(duration=duration)
        timer.ticket = self.recorder.issue(timer.command, timer)
        return timer

    def next_timer(self) -> tuple[datetime, int] | None:
        """When the earliest recorded timer is due, and the sequence of its TimerStarted; None if there is none."""
        following = self.timers.next()
        return None if following is None else (self.date(following[0]), following[1])

    def date(self, due: int) -> datetime:
        """The moment that is ``due`` microseconds after the start. Raises ``ValueError`` beyond the year 9999."""
        try:
            return self.started + timedelta(microseconds=due)
        except OverflowError as error:
            raise ValueError("A timer cannot be due after the year 9999.") from error

    def _timer_handle_cancelled(self, timer: Timer) -> None:
        if self.evicted or self.recorder.withdraw(timer.ticket):
            return
        if timer.command is not None and self.timers.remove(timer.command.sequence) is not None:
            self.recorder.issue(CancelTimer(timer=timer.command.sequence))

    def create_future(self) -> Future:
        self.gate()
        return self._new_future()

    def _new_future(self) -> Future:
        self._ordinal += 1
        return Future(loop=self, seed=self.seed, ordinal=self._ordinal)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Future[Any]:
        if self.evicted:  # no refusal: gather() would leave the coroutines behind this one, and Python warn of them
            coro.close()
            return self._new_future()
        siblings = as_completed.listed(sys._getframe(1))
        if siblings is None:
            return self._new_task(coro, name, context)
        if id(coro) not in self._listed:
            self._create_in_order(siblings)
        return self._listed.pop(id(coro))

    def _create_in_order(self, siblings: list[Any]) -> None:
        self._listed.clear()
        for sibling in siblings:
            if asyncio.iscoroutine(sibling) and id(sibling) not in self._listed:
                self._listed[id(sibling)] = self._new_task(sibling, None, None)

    def create_main(self, coro: Coroutine[Any, Any, Any], *, name: str) -> Task:
        """The task of the workflow's body, in a fresh context: nothing of the worker's is visible in it."""
        return self._new_task(coro, name, Context())

    def _new_task(self, coro: Coroutine[Any, Any, Any], name: str | None, context: Context | None) -> Task:
        self._ordinal += 1
        task = Task(coro, loop=self, seed=self.seed, ordinal=self._ordinal, name=name, context=context)
        self.tasks[task.ordinal] = task
        task.add_done_callback(self._task_done, context=self._context)
        return task

    def _task_done(self, task: asyncio.Future[Any]) -> None:
        assert isinstance(task, Task)
        self.tasks.pop(task.ordinal, None)
        error = task._exception
        if error is None:
            return
        if isinstance(error, WorkflowSuspended):
            task._log_traceback = False
            raise error
        self.failed.append(task)

    def take_unawaited(self) -> list[Task]:
        """Failed tasks whose exception nobody has looked at until now."""
        self.failed = [task for task in self.failed if task._log_traceback]
        return self.failed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        # Also called when futures are collected, which may be in any thread: it must do nothing but report.
        if self.on_error is not None and not self.evicted:
            self.on_error(context)

    # Asynchronous generators

    def _generator_started(self, generator: AsyncGenerator[Any, Any]) -> None:
        if len(self.generators) >= self._prune_at:
            self.generators = [other for other in self.generators if other.ag_frame is not None]  # type: ignore[attr-defined]
            self._prune_at = 64 + 2 * len(self.generators)
        self.generators.append(generator)

    # Refusing

    def gate(self) -> None:
        """Raise ``WorkflowEvicted`` once the run was evicted; after a hundred times return, to do nothing instead."""
        if not self.evicted:
            return
        self._refusals += 1
        if self._refusals <= REFUSALS_LIMIT:
            raise WorkflowEvicted("This run has left the memory of its worker; it goes on from its history.")


def _generator_collected(generator: AsyncGenerator[Any, Any]) -> None:
    """Do nothing: a generator is only collected after its run was closed."""


def _duration(delay: float) -> int:
    """Seconds as microseconds, at least one if there is anything to wait for."""
    try:
        return 0 if delay <= 0 else max(1, round(delay * _SECOND))
    except TypeError as error:
        raise TypeError(f"A timer runs for a timedelta or a number of seconds, not {delay!r}.") from error
    except (OverflowError, ValueError) as error:
        raise ValueError(f"A timer cannot run for {delay!r} seconds.") from error
