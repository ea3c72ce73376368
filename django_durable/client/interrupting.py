"""Stops workflow code that never awaits: it would keep a worker, or a caller who only asks, for ever."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Generic, TypeVar

from django_durable import conf
from django_durable.exceptions import WorkflowStuck

S = TypeVar("S")
T = TypeVar("T")

CHECKS = 8  # looks of the watching thread per STUCK_SECONDS

_HIDDEN = (str(Path(__file__).parent.parent), str(Path(asyncio.__file__).parent))


class Interrupter(Generic[S]):
    """Knows whose code a thread is in, and since when: between ``enter(subject)`` and ``leave()``.

    ``check`` runs in another thread. It raises ``WorkflowStuck`` inside the watched thread, but only while that is
    between entering and leaving workflow code. Where the exception surfaces in the last step before ``leave``,
    whoever catches it calls ``leave`` again.
    """

    def __init__(self, seconds: float | None = None) -> None:
        """``seconds`` that code may take; None: STUCK_SECONDS."""
        self._seconds = seconds
        self._lock = threading.Lock()
        self._subject: S | None = None
        self._since = 0.0
        self._thread = 0
        self._raised = False
        self.where = ""

    @property
    def limit(self) -> float:
        """Seconds."""
        return conf.current().STUCK_SECONDS if self._seconds is None else self._seconds

    def enter(self, subject: S) -> None:
        """Code of ``subject`` begins to run in this thread."""
        with self._lock:
            self._subject, self._since, self._raised = subject, time.monotonic(), False
            self._thread = threading.get_ident()

    def touch(self) -> None:
        """The watched code has made a step: a long replay is many short drains."""
        self._since = time.monotonic()

    def check(self) -> tuple[S, float] | None:
        """Interrupt code that has run too long; returns whose, and for how many seconds, if any is stuck."""
        with self._lock:
            subject, lasted = self._subject, time.monotonic() - self._since
            if subject is None or lasted < self.limit:
                return None
            self.where = _user_line(sys._current_frames().get(self._thread))
            self._raised = True
            self._inject(WorkflowStuck)
            return subject, lasted

    def leave(self) -> None:
        """No workflow code runs any more; whatever was injected meanwhile is taken back or has surfaced here."""
        while True:
            try:
                with self._lock:
                    self._subject = None
                    if self._raised:
                        self._inject(None)
                        self._raised = False
                return
            except WorkflowStuck:
                continue

    def _inject(self, error: type[BaseException] | None) -> None:
        target = ctypes.py_object(error) if error is not None else None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), target)


def bounded(
    function: Callable[[Callable[[], None]], T],
    *,
    what: str,
    stopped: Callable[[str], Exception],
    seconds: float | None = None,
) -> T:
    """Call ``function`` in this thread, while another one watches that no step of it takes longer than ``seconds``.

    ``function`` is given what it calls between two steps. It must touch nothing that an exception out of nowhere
    would leave broken, such as a database connection. Raises what ``stopped`` makes of a message if it was stopped;
    ``what`` is that. ``seconds`` None: STUCK_SECONDS.
    """
    interrupter: Interrupter[str] = Interrupter(seconds)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(interrupter.limit / CHECKS):
            interrupter.check()

    watcher = threading.Thread(target=watch, name="durable-query", daemon=True)
    watcher.start()
    try:
        interrupter.enter(what)
        try:
            return function(interrupter.touch)
        finally:
            interrupter.leave()
    except WorkflowStuck:
        interrupter.leave()
        raise stopped(
            f"{what} ran for more than {interrupter.limit:g} s at {interrupter.where or 'an unknown place'} without "
            "awaiting anything, and was stopped."
        ) from None
    finally:
        done.set()
        watcher.join()


def _user_line(frame: FrameType | None) -> str:
    """``file:line`` of the innermost frame that is neither ours nor asyncio's."""
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_HIDDEN):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
