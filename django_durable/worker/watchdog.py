"""Watches over the engine thread: workflow code that never awaits must not stop all other runs."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from django_durable import conf
from django_durable.exceptions import WorkflowStuck

if TYPE_CHECKING:
    from django_durable.worker.ownership import OwnedRun

_HIDDEN = (str(Path(__file__).parent.parent), str(Path(asyncio.__file__).parent))


class Watchdog:
    """Knows which run's code the engine thread is in, and since when: ``with watchdog.watching(run): ...``.

    ``check`` runs in another thread. It raises ``WorkflowStuck`` inside the engine thread, but only while that is
    between entering and leaving workflow code. Where the exception surfaces in the last step of the block itself,
    whoever catches it calls ``leave`` again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: OwnedRun | None = None
        self._since = 0.0
        self._thread = 0
        self._raised = False
        self.where = ""

    def watching(self, run: OwnedRun) -> Self:
        """The block runs code of ``run``."""
        with self._lock:
            self._run, self._since, self._raised = run, time.monotonic(), False
            self._thread = threading.get_ident()
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()

    def touch(self) -> None:
        """The watched code has made a step: a long replay is many short drains."""
        self._since = time.monotonic()

    def check(self) -> tuple[OwnedRun, float] | None:
        """Interrupt code that has run too long; returns the run and for how many seconds, if one is stuck."""
        with self._lock:
            run, lasted = self._run, time.monotonic() - self._since
            if run is None or lasted < conf.current().STUCK_SECONDS:
                return None
            self.where = _user_line(sys._current_frames().get(self._thread))
            self._raised = True
            self._inject(WorkflowStuck)
            return run, lasted

    def leave(self) -> None:
        """No workflow code runs any more; whatever was injected meanwhile is taken back or has surfaced here."""
        while True:
            try:
                with self._lock:
                    self._run = None
                    if self._raised:
                        self._inject(None)
                        self._raised = False
                return
            except WorkflowStuck:
                continue

    def _inject(self, error: type[BaseException] | None) -> None:
        target = ctypes.py_object(error) if error is not None else None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), target)


def _user_line(frame: FrameType | None) -> str:
    """``file:line`` of the innermost frame that is neither ours nor asyncio's."""
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_HIDDEN):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
