"""Takes a run out of memory, so that nothing of its code ever runs again.

Closing a coroutine runs its ``finally`` blocks, here and now, on the caller's thread, where every call on the context
and the loop raises ``WorkflowEvicted``. Left to garbage collection they would run at any time and in any thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import inspect
import logging
from collections import deque
from types import AsyncGeneratorType, CoroutineType
from typing import Any

from django_durable.engine import lines
from django_durable.engine.loop import DeterministicLoop
from django_durable.exceptions import WorkflowEvicted

logger = logging.getLogger("django_durable")

_CONTAINERS = (list, tuple, dict, set, frozenset, deque, CoroutineType, AsyncGeneratorType)
_SEARCH_LIMIT = 5_000  # objects that are looked at for coroutines that were never started


def evict(loop: DeterministicLoop) -> None:
    """Close all code that runs on ``loop``, in the order in which it began, and drop everything that it asks for."""
    loop.evicted = True
    try:
        loop.enter(lambda: _close_all(loop))
    finally:
        loop.release()


def _close_all(loop: DeterministicLoop) -> None:
    tasks = sorted(loop.tasks.values(), key=lambda task: task.ordinal)
    coroutines = [awaited for task in tasks for awaited in _chain(task.get_coro())]
    unstarted = _unstarted([*coroutines, *loop.generators])
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    for coroutine in coroutines:
        _close(coroutine)
    for generator in loop.generators:
        _close_generator(generator)
    for coroutine in unstarted:  # else Python would warn, at some other time, that nobody awaited them
        _close(coroutine)


def _chain(coroutine: Any) -> list[Any]:
    """``coroutine`` and those that it waits in: an outer one may end while an inner one does not give up."""
    chain = []
    while isinstance(coroutine, CoroutineType):
        chain.append(coroutine)
        coroutine = coroutine.cr_await
    return chain


def _close(coroutine: Any) -> None:
    # An exception of its own before close(): the GeneratorExit of close() does not reach asynchronous generators that
    # the coroutine iterates, before Python 3.13. Whatever the code raises, nobody is there to hear it.
    for end in (lambda: coroutine.throw(WorkflowEvicted("This run leaves the memory of its worker.")), coroutine.close):
        if coroutine.cr_frame is not None:
            with contextlib.suppress(BaseException):
                end()
    if coroutine.cr_frame is not None:
        _report(coroutine)
        _keep_for_ever(coroutine)


def _close_generator(generator: Any) -> None:
    if generator.ag_frame is None:
        return
    closing = generator.aclose()
    with contextlib.suppress(BaseException):
        closing.send(None)
    if generator.ag_frame is not None:
        _report(generator)
        _keep_for_ever(generator)
        _keep_for_ever(closing)


def _report(code: Any) -> None:
    logger.warning(
        "Workflow code at %s goes on after every exception, even while its run leaves memory. Catch Exception there "
        "rather than BaseException, and re-raise asyncio.CancelledError.",
        lines.of_coroutine(code) or code,
    )


def _keep_for_ever(code: Any) -> None:
    """Collecting such code would run it once more, in any thread, if only when the process ends: so it never is."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))


def _unstarted(coroutines: list[Any]) -> list[Any]:
    """Coroutines that were made and not awaited yet, found from the frames of ``coroutines``."""
    found: list[Any] = []
    seen: set[int] = set()
    waiting = deque(coroutines)
    while waiting and len(seen) < _SEARCH_LIMIT:
        item = waiting.popleft()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, CoroutineType) and inspect.getcoroutinestate(item) == inspect.CORO_CREATED:
            found.append(item)
        waiting.extend(other for other in gc.get_referents(item) if isinstance(other, _CONTAINERS))
    return found
