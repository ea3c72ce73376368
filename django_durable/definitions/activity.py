"""Activities: ordinary functions, sync or async, in which side effects live."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from functools import cache
from typing import Any, Generic, Literal, ParamSpec, TypedDict, TypeVar, Unpack, get_args

from django_durable.definitions import function as functions
from django_durable.definitions import options as checks
from django_durable.definitions import polling, queue, stored_retry
from django_durable.definitions.polling import Polling
from django_durable.definitions.retry import Retry
from django_durable.exceptions import DefinitionError
from django_durable.payloads.payload import Payload
from django_durable.payloads.signature import Arguments, CallSignature

P = ParamSpec("P")
R = TypeVar("R")

ActivityCancellation = Literal["try", "wait", "abandon"]

Executor = Literal["thread", "async", "process"]
EXECUTORS: tuple[Executor, ...] = ("thread", "async", "process")
THREAD, ASYNC, PROCESS = EXECUTORS


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityOptions:
    """How an activity is run. Not compared on replay, so a deploy may change it under running workflows."""

    retry: Retry = field(default_factory=Retry)
    start_to_close: timedelta | None = None
    """Time that one attempt may take; None: any."""
    schedule_to_start: timedelta | None = None
    """Time until its first attempt must have begun; None: any."""
    schedule_to_close: timedelta | None = None
    """Time that all attempts and the pauses between them may take together; None: any."""
    heartbeat: timedelta | None = None
    """Time that an attempt may pass without ``current_activity().heartbeat()``; None: any."""
    cancellation: ActivityCancellation = "try"
    """What the workflow's code sees when it gives the call up: CancelledError at once, while the activity is asked to
    stop (try) or goes on by itself (abandon), or after it has ended (wait)."""
    atomic: bool = False
    """Its ORM writes and its completion commit together: exactly once."""
    at_most_once: bool = False
    """A crash of the process while it ran fails it as interrupted, instead of running it again."""
    queue: str | None = None
    """Queue whose workers run it; None: wherever the run is."""
    priority: int = 0
    """-100 to 100, higher first."""
    partition_key: str | None = None
    """Whose work it is, for limits and turns of its queue: a tenant, for example. None: that of its run."""
    label: str = ""
    """The caller's words for people, in the history and the admin."""
    executor: Executor | None = None
    """Where it runs: in a thread of the worker, on its event loop, in a process. None: a thread, or the loop."""


class ActivityChanges(TypedDict, total=False):
    """Options of an activity, for ``using()`` and the decorator. ``name`` is free text."""

    name: str
    retry: Retry
    start_to_close: timedelta | None
    schedule_to_start: timedelta | None
    schedule_to_close: timedelta | None
    heartbeat: timedelta | None
    cancellation: ActivityCancellation
    atomic: bool
    at_most_once: bool
    queue: str | None
    priority: int
    partition_key: str | None
    label: str
    executor: Executor | None


TIMEOUTS = ("start_to_close", "schedule_to_start", "schedule_to_close", "heartbeat")
KNOWN = frozenset(option.name for option in fields(ActivityOptions)) | {"name"}


class ActivityDefinition(functions.Declared, Generic[P, R]):
    """A declared activity. Calling it calls the function, as in a plain test."""

    def __init__(self, function: Callable[P, Any], *, name: str, options: ActivityOptions | None = None) -> None:
        """Declare ``function`` under ``name``. Raises ``DefinitionError`` for what could not work."""
        functions.check_declarable(function, decorator="durable.activity")
        checks.check_text(name, what="The name of an activity")
        _check_kind(function, name)
        self._declared = self
        self._name = name
        self._function = function
        self._options = options or ActivityOptions()
        self._signature = CallSignature(function, name=name)
        self._executor = _executor_of(function, self._options)
        _check_options(self)
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function itself: nothing durable happens. Of an ``async def`` the result is awaitable."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<activity {self.name}>"

    @property
    def name(self) -> str:
        return self._name

    @property
    def declared_options(self) -> ActivityOptions:
        """The options it was declared with, before any ``using()``."""
        options: ActivityOptions = self._declared.options
        return options

    @property
    def registered_name(self) -> str:
        """The name it was declared under, by which any process finds it whatever ``using(name=...)`` says."""
        name: str = self._declared.name
        return name

    @property
    def function(self) -> Callable[P, Any]:
        return self._function

    @property
    def options(self) -> ActivityOptions:
        return self._options

    @property
    def signature(self) -> CallSignature:
        """How its inputs and results are stored."""
        return self._signature

    @property
    def place(self) -> functions.Place:
        """Where it is written."""
        return functions.place_of(self.function)

    @property
    def is_async(self) -> bool:
        """Whether it is an ``async def``, so runs on the worker's event loop."""
        return _is_async(self.function)

    @property
    def executor(self) -> Executor:
        """Where it runs: as its options say, else as its kind of function needs."""
        return self._executor

    def using(self, **options: Unpack[ActivityChanges]) -> ActivityDefinition[P, R]:
        """A copy with other options; what is not given stays as it is.

        Raises ``DefinitionError`` for unknown or wrong ones.
        """
        given: dict[str, Any] = dict(options)
        checks.check_names(given, known=KNOWN, owner=f"Activity {self.name}")
        changed = self._changeable()
        stored_retry.check_predicate(given.get("retry"), before=self.options.retry, owner=f"Activity {self.name}")
        changed._name = given.pop("name", self._name)
        changed._options = replace(self._options, **given)
        changed._executor = _executor_of(self._function, changed._options)
        checks.check_text(changed._name, what="The name of an activity")
        _check_options(changed)
        return changed

    def _changed_options(self) -> dict[str, Any]:
        return {**checks.changes(self._declared.options, self.options), "name": self.name}

    def polling(
        self,
        *,
        until: Callable[[R], Any],
        every: timedelta | float,
        attempts: int | None = None,
        timeout: timedelta | float | None = None,
    ) -> Polling[P, R]:
        """For ``ctx.poll()``: call it every so often until ``until(result)`` is true.

        At most ``attempts`` times, for at most ``timeout``. Raises ``DefinitionError`` for what could not work.
        """
        return polling.polling(self, until=until, every=every, attempts=attempts, timeout=timeout)

    def encode_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        """Store a call's arguments. Raises ``TypeError`` for a wrong call, ``PayloadError`` for a wrong value."""
        return self.signature.encode_input(args, kwargs)

    def decode_input(self, payload: Payload) -> Arguments:
        """The arguments to call the function with. Raises ``PayloadError``."""
        return self.signature.decode_input(payload)

    def encode_result(self, value: Any) -> Payload:
        """Store what the function returned. Raises ``PayloadError``."""
        return self.signature.encode_result(value)

    def decode_result(self, payload: Payload) -> R:
        """What the function returned. Raises ``PayloadError``."""
        result: R = self.signature.decode_result(payload)
        return result


def _executor_of(function: Callable[..., Any], options: ActivityOptions) -> Executor:
    return options.executor or (ASYNC if _is_async(function) else THREAD)


@cache
def _is_async(function: Callable[..., Any]) -> bool:
    """Asked several times for every attempt, and slow to find out."""
    return inspect.iscoroutinefunction(function)


def _check_kind(function: Callable[..., Any], name: str) -> None:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(
            f"Activity {name} ({functions.place_of(function)}) is a generator; an activity returns one value. "
            f"Return a list, or split the work into several activities."
        )


def _check_options(definition: ActivityDefinition[Any, Any]) -> None:
    options, owner = definition.options, f"Activity {definition.name}"
    if not isinstance(options.retry, Retry):
        raise DefinitionError(
            f"{owner}: retry must be a Retry, not {options.retry!r}. For a single attempt: Retry(max_attempts=1)."
        )
    for name in TIMEOUTS:
        limit = getattr(options, name)
        if limit is not None:
            checks.check_duration(limit, name=name, owner=owner)
    checks.check_choice(options.cancellation, name="cancellation", choices=get_args(ActivityCancellation), owner=owner)
    checks.check_flag(options.atomic, name="atomic", owner=owner)
    checks.check_flag(options.at_most_once, name="at_most_once", owner=owner)
    if options.queue is not None:
        checks.check_text(options.queue, what=f"{owner}: queue", limit=queue.NAME_LIMIT)
    checks.check_priority(options.priority, owner=owner)
    if options.partition_key is not None:
        queue.check_key(options.partition_key, owner=owner)
    checks.check_text(options.label, what=f"{owner}: label", empty=True)
    if options.atomic and definition.is_async:
        raise DefinitionError(
            f"{owner} ({definition.place}): atomic=True needs a plain def, because Django's transactions belong to a "
            f"thread. Make it a def, or leave atomic out."
        )
    if options.executor is not None:
        _check_executor(definition, options.executor)


def _check_executor(definition: ActivityDefinition[Any, Any], executor: Executor) -> None:
    owner = f"Activity {definition.name}"
    checks.check_choice(executor, name="executor", choices=EXECUTORS, owner=owner)
    if definition.is_async != (executor == ASYNC):
        kind = "an async def" if definition.is_async else "a def"
        raise DefinitionError(
            f"{owner} ({definition.place}) is {kind}, which cannot run with executor={executor!r}. Threads and "
            f"processes run a def, the worker's event loop an async def."
        )
    if executor == PROCESS and definition.options.atomic:
        raise DefinitionError(
            f"{owner}: atomic=True runs in a thread of the worker whose claim its transaction proves. Compute in an "
            f"activity with executor='process', and write what it returns in an atomic one."
        )
