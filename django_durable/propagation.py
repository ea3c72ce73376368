"""What surrounds the start of a workflow goes with it to its activities: language, time zone, actor, trace, the user's.

Values are captured where a run is started, stored with it as JSON, and restored around each attempt of its activities,
in whatever process that is. A run that follows in a chain, and a child, has those of the run before it.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

from django.conf import settings
from django.utils import timezone, translation

from django_durable.exceptions import DefinitionError
from django_durable.payloads import codec
from django_durable.payloads.payload import Payload

try:
    from opentelemetry import context as trace_contexts
    from opentelemetry import propagate as traces
except ImportError:
    traces = None  # type: ignore[assignment]

Capture = Callable[[], Any]
Restore = Callable[[Any], AbstractContextManager[Any] | None]

NAME = re.compile(r"[\w.-]{1,100}")
DIGEST = "digest"  # what was asked for with a start; nothing restores it


class Carrier(NamedTuple):
    """How one value is found where a run is started, and set where its activities run.

    ``capture`` gives any value that JSON can hold, or None: there is nothing to carry. ``restore`` takes it, and sets
    it or gives a context manager that does.
    """

    capture: Capture
    restore: Restore


_actor: ContextVar[str | int | None] = ContextVar("durable_actor", default=None)


@contextmanager
def actor(value: str | int | None) -> Iterator[None]:
    """Inside the block, what is started is started on behalf of ``value``. Works as a decorator too."""
    given: Any = value
    if isinstance(given, bool) or not isinstance(given, str | int | None):
        raise TypeError(f"An actor is text or a number, such as a user's primary key, not {given!r}.")
    token = _actor.set(value)
    try:
        yield
    finally:
        _actor.reset(token)


def current_actor() -> str | int | None:
    """On whose behalf this code runs; None: nobody has said."""
    return _actor.get()


def propagate(name: str, *, capture: Capture, restore: Restore) -> None:
    """Carry one more value along. Raises ``DefinitionError`` if the name is taken or none."""
    given: Any = name
    if not isinstance(given, str) or not NAME.fullmatch(given):
        raise DefinitionError(f"The name of what is propagated has letters, digits, '_', '-' and '.', not {name!r}.")
    functions: tuple[Any, ...] = capture, restore
    if not all(map(callable, functions)):
        raise DefinitionError(f"Propagating {name!r} needs two functions: capture() and restore(value).")
    if name in (*_BUILT_IN, DIGEST) or (name in _users and _place(_users[name].capture) != _place(capture)):
        raise DefinitionError(f"Something called {name!r} is propagated already. Take another name.")
    _users[name] = Carrier(capture, restore)


def capture(*, digest: str | None = None) -> Payload | None:
    """What surrounds this code, to be stored; None: nothing. Raises ``PayloadError`` for what JSON cannot hold.

    ``digest``: what the caller of a start wants to know it by later, with ``digest_of``.
    """
    found: dict[str, Any] = {name: carrier.capture() for name, carrier in (*_BUILT_IN.items(), *_users.items())}
    found[DIGEST] = digest
    kept = {name: value for name, value in found.items() if value is not None}
    return codec.encode(kept, what="What is propagated to activities") if kept else None


def digest_of(headers: Payload | None) -> str | None:
    """What ``capture`` was given as digest."""
    if headers is None:
        return None
    digest: str | None = codec.decode(headers, what="What is propagated to activities").get(DIGEST)
    return digest


def restored(headers: Payload | None) -> AbstractContextManager[None]:
    """Set what was captured, until the end of the block. Names that this process does not know are left alone."""
    return _restored(headers) if headers is not None else _NOTHING


def carried(headers: Payload | None, name: str) -> Any:
    """One of the values that were captured; None: it was not."""
    return codec.decode(headers, what="What is propagated").get(name) if headers is not None else None


@contextmanager
def _restored(headers: Payload) -> Iterator[None]:
    with ExitStack() as stack:
        for name, value in codec.decode(headers, what="What is propagated to activities").items():
            carrier = _BUILT_IN.get(name) or _users.get(name)
            if carrier is not None:
                block = carrier.restore(value)
                if block is not None:
                    stack.enter_context(block)
        yield


def _language() -> str | None:
    """The language that was chosen, if that is not the one that every process begins with."""
    chosen = translation.get_language() if settings.USE_I18N else None
    return None if chosen == settings.LANGUAGE_CODE else chosen


def _time_zone() -> str | None:
    """The name of the time zone that was chosen; one without a name cannot be carried."""
    chosen = timezone.get_current_timezone()
    return None if chosen == timezone.get_default_timezone() else getattr(chosen, "key", None)


def _trace() -> dict[str, str] | None:
    """The trace context as the configured propagators write it: W3C's ``traceparent``, unless that was changed."""
    carried: dict[str, str] = {}
    if traces is not None:
        traces.inject(carried)
    return carried or None


@contextmanager
def _continue_trace(carried: dict[str, str]) -> Iterator[None]:
    if traces is None:
        yield
        return
    token = trace_contexts.attach(traces.extract(carried))
    try:
        yield
    finally:
        trace_contexts.detach(token)


def _place(function: Callable[..., Any]) -> Any:
    """The same place again is the same code: a module that was imported twice."""
    code = getattr(function, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code is not None else function


_BUILT_IN = {
    "language": Carrier(_language, translation.override),
    "time_zone": Carrier(_time_zone, lambda name: timezone.override(zoneinfo.ZoneInfo(name))),
    "actor": Carrier(current_actor, actor),
    "trace": Carrier(_trace, _continue_trace),
}
_users: dict[str, Carrier] = {}
_NOTHING = nullcontext()
